"""A network and images from different people."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.errors import NadError
from nad.models.card import Card
from nad.models.checkpoints import Loaded
from nad.models.normalize import Normalized, answer, normalisation
from nad.pipeline.fitting import fitted, trainable


class Several(nn.Module):
    """Gives what it is told to, in training something else perhaps."""

    def __init__(self, evaluated: str, trained: str | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)
        self.evaluated, self.trained = evaluated, trained or evaluated

    def forward(self, x: Tensor) -> Any:
        logits = self.layer(x.flatten(1))
        return {
            "tensor": logits,
            "one": {"features": x, "main": logits},
            "two": (logits, 2 * logits),
            "auxiliary": {"logits": logits, "auxiliary": 2 * logits},
        }[self.trained if self.training else self.evaluated]


def loaded(names: tuple[str, ...] = (), model: nn.Module | None = None, **more: Any) -> Loaded:
    return Loaded((model or Several("tensor")).eval(), "own.py:net", 3, None, {}, ("first",), names=names, **more)


def dataset(*classes: str, numbered: bool = False) -> Dataset:
    labels = torch.arange(len(classes))
    pixels = torch.full((len(classes), 3, 2, 2), 100, dtype=torch.uint8)
    return Dataset("some", ImageSet(pixels, labels, classes, "some"), None, numbered)


def labelled(network: Loaded, images: Dataset, names: tuple[str, ...] | None = None) -> tuple[Any, tuple[str, ...]]:
    """The classes by label after fitting, and the notes that it added."""
    network, fits = fitted(network, images, names)
    assert network.notes[0] == "first"
    return {images.classes[i]: int(label) for i, label in enumerate(fits.train.labels)}, network.notes[1:]


def test_a_file_says_which_class_is_which() -> None:
    found, notes = labelled(loaded(names=("a", "b", "c")), dataset("go", "stop", "yield"), ("yield", "go", "stop"))
    assert found == {"go": 1, "stop": 2, "yield": 0}
    assert notes == ("labels are put into the network's order of classes, by name",)


def test_a_file_counts_where_a_card_says_another_order() -> None:
    card = Card(architecture="wrn-10-1", classes=("go", "stop", "yield"))
    network, images = fitted(replace(loaded(card.classes), card=card), dataset(*card.classes), ("stop", "yield", "go"))
    assert network.card == replace(card, classes=("stop", "yield", "go"))
    assert images.classes == network.card.classes


def test_a_file_names_every_class_of_the_network() -> None:
    with pytest.raises(NadError, match="--classes names 2 classes and the network has 3; expected each once"):
        fitted(loaded(), dataset("a", "b"), ("a", "b"))
    with pytest.raises(NadError, match="some: 'd' is no class of the network"):
        fitted(loaded(), dataset("a", "d", numbered=True), ("a", "b", "c"))


@pytest.mark.parametrize("numbered", [False, True])
def test_known_names_say_it_for_every_source(numbered: bool) -> None:
    found, notes = labelled(loaded(("yield", "Go", "stop")), dataset("go", "stop", "yield", numbered=numbered))
    assert found == {"go": 1, "stop": 2, "yield": 0}
    assert notes == ("labels are put into the network's order of classes, by name",)
    found, notes = labelled(loaded(("go", "stop", "yield")), dataset("go", "stop", "yield", numbered=numbered))
    assert (found, notes) == ({"go": 0, "stop": 1, "yield": 2}, ())


def test_classes_may_lack_pictures() -> None:
    found, notes = labelled(loaded(("go", "stop", "yield")), dataset("go", "yield"))
    assert found == {"go": 0, "yield": 2}
    assert notes == (
        "labels are put into the network's order of classes, by name",
        "no pictures of 1 of the network's 3 classes: stop",
    )


def test_a_folder_that_is_no_known_class_is_named() -> None:
    with pytest.raises(NadError, match="some: 'yeild' is no class of the network; did you mean yield"):
        fitted(loaded(("go", "stop", "yield")), dataset("go", "stop", "yeild"))


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_folders_of_unknown_names_are_taken_in_order_with_a_warning(names: tuple[str, ...]) -> None:
    found, notes = labelled(loaded(names), dataset("go", "stop", "yield"))
    assert found == {"go": 0, "stop": 1, "yield": 2}
    assert len(notes) == 1
    assert "warning" in notes[0]
    assert (
        "in sorted order (go, stop, yield); the accuracy tells whether that fits, and --classes FILE says another"
        in notes[0]
    )


def test_numbers_are_taken_by_their_value() -> None:
    found, notes = labelled(loaded(), dataset("10", "2", "9"))
    assert found == {"10": 2, "2": 0, "9": 1}
    assert "in numeric order (2, 9, 10)" in notes[0]


def test_bare_numbers_are_called_by_the_networks_names() -> None:
    network, images = fitted(loaded(("stop", "go", "left")), dataset("0", "1", "2", numbered=True))
    assert images.classes == ("stop", "go", "left")
    assert images.train.labels.tolist() == [0, 1, 2]
    assert network.notes[1:] == ("the pictures number their classes, which are taken in the order of the network's",)


def test_a_source_that_numbers_its_classes_keeps_its_numbers() -> None:
    assert labelled(loaded(), dataset("10", "2", "9", numbered=True)) == ({"10": 0, "2": 1, "9": 2}, ())
    found = {"airplane": 0, "car": 1, "x": 2}
    assert labelled(loaded(("plane", "car", "x")), dataset(*found, numbered=True)) == (found, ())


def test_the_only_output_of_the_right_shape_is_the_answer() -> None:
    network = Normalized(Several("one"), (0.5,) * 3, (0.5,) * 3)
    images = dataset("a", "b", "c", numbered=True)
    found, _ = fitted(loaded(model=network), images)
    assert found.notes[1:] == ("the network gives several outputs, of which main is taken; --output sets another",)
    assert (answer(found.model), normalisation(found.model)) == ("main", network.normalisation)
    assert not any(module.training for module in found.model.modules())
    x = torch.rand(2, 3, 2, 2)
    assert torch.equal(found.model(x), network(x)["main"])
    assert trainable(found, images.train) is found


def test_of_several_outputs_one_must_be_named() -> None:
    with pytest.raises(NadError, match=r"gives 2 outputs of 3 classes; .* 0 \[1, 3\], 1 \[1, 3\].\nPass --output"):
        fitted(loaded(model=Several("two")), dataset("a", "b", "c", numbered=True))


def test_heads_that_give_something_in_training_only() -> None:
    images = dataset("a", "b", "c").train
    for trained, output in (("auxiliary", "logits"), ("one", "main"), ("tensor", None)):
        network = loaded(model=Several("tensor", trained))
        state = {key: value.clone() for key, value in network.model.state_dict().items()}
        found = trainable(network, images).model
        assert answer(found) == output
        assert not network.model.training
        assert not found.training
        assert all(torch.equal(state[key], value) for key, value in network.model.state_dict().items())
        assert found.train()(torch.rand(2, 3, 2, 2)).shape == (2, 3)
    with pytest.raises(NadError, match="gives 2 outputs of 3 classes"):
        trainable(loaded(model=Several("tensor", "two")), images)


def test_a_card_and_a_subset_of_its_classes() -> None:
    card = Card(architecture="wrn-10-1", classes=("go", "stop", "yield"))
    network = Loaded(Several("tensor").eval(), "wrn-10-1", 3, card, {}, ("first",), names=card.classes)
    _, fits = fitted(network, dataset("stop", "yield", numbered=True))
    assert fits.classes == card.classes
    assert fits.train.counts() == [0, 1, 1]


def test_a_name_that_is_another_class_and_one_that_is_none() -> None:
    """Numbers are no order where the names that are known say another."""
    known = loaded(names=("go", "stop", "yield"))
    with pytest.raises(NadError, match="halt"):
        labelled(known, dataset("stop", "go", "halt", numbered=True))
    assert labelled(known, dataset("go", "halt", "wait", numbered=True))[0] == {"go": 0, "halt": 1, "wait": 2}
