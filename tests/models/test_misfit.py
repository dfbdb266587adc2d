"""What is said of weights that do not fit: the number of classes, the sibling that fits, parts too many or missing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from nad.errors import NadError
from nad.models import misfit
from nad.models.checkpoints import load
from nad.models.create import create
from nad.models.misfit import advice

ASK = "Pass the architecture it was trained as with --model"
QUANTISED = "Its weights are quantised, which cannot be trained: pass those from before quantisation"


def state(name: str, classes: int = 5) -> dict[str, Tensor]:
    """The keys and shapes of a network, without memory."""
    with torch.device("meta"):
        return create(name, classes).state_dict()


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ("wrn-16-1", "wrn-40-2"),
        ("wrn-28-10", "wrn-16-1"),
        ("wrn-10-2", "wrn-10-1"),
        ("preactresnet18:width=16", "preactresnet18"),
        ("torchvision:resnet34", "torchvision:resnet18"),
        ("torchvision:resnet50", "torchvision:resnet18"),
        ("torchvision:vgg11_bn", "torchvision:vgg11"),
        ("torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_large"),
        ("torchvision:efficientnet_b1", "torchvision:efficientnet_b0"),
        ("timm:resnet34", "timm:resnet18"),
        ("timm:vit_tiny_patch16_224:size=32", "timm:vit_tiny_patch16_224"),
        ("torchvision:vit_b_16:size=64", "torchvision:vit_b_16"),
        ("torchvision:vit_b_16:size=64", "torchvision:vit_b_16:size=32"),
    ],
)
def test_the_sibling_that_fits_is_named(made: str, asked: str) -> None:
    assert advice(asked, state(asked), state(made)) == f"It fits {made}: pass --model {made}"


def test_the_sibling_may_have_any_number_of_classes_and_lack_counters() -> None:
    old = {key: tensor for key, tensor in state("wrn-16-1", 43).items() if "num_batches" not in key}
    assert advice("wrn-10-1", state("wrn-10-1"), old) == "It fits wrn-16-1: pass --model wrn-16-1"


@pytest.mark.parametrize(
    ("made", "asked"),
    [("wrn-16-3", "wrn-16-1"), ("torchvision:vgg11", "torchvision:resnet18"), ("wrn-16-1", "torchvision:resnet18")],
)
def test_nothing_is_made_up_where_none_fits(made: str, asked: str) -> None:
    assert advice(asked, state(asked), state(made)) == ASK


def test_folded_batchnorm_is_called_by_name() -> None:
    whole = state("torchvision:resnet18")
    norms = {key.rpartition(".")[0] for key in whole if key.endswith("running_var")}
    convolutions = [key for key, tensor in whole.items() if tensor.ndim == 4]
    folded = {key: tensor for key, tensor in whole.items() if key.rpartition(".")[0] not in norms}
    folded |= {f"{key.removesuffix('weight')}bias": torch.empty(len(whole[key]), device="meta") for key in convolutions}
    assert advice("torchvision:resnet18", whole, folded).startswith("Its BatchNorm is folded into the convolutions")
    folded |= {"head.other.weight": torch.empty(3, device="meta")}
    assert "folded" not in advice("torchvision:resnet18", whole, folded)


def test_a_sibling_with_one_other_shape_does_not_fit() -> None:
    changed = state("torchvision:resnet34") | {"conv1.weight": torch.empty(64, 4, 7, 7, device="meta")}
    assert advice("torchvision:resnet18", state("torchvision:resnet18"), changed) == ASK


@pytest.mark.parametrize("asked", ["torchvision:regnet_y_400mf", "timm:resnet18", "wrn-16-1"])
def test_at_most_a_dozen_siblings_are_made_and_none_takes_memory(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    made = []

    def counted(name: str, classes: int, trusted: bool) -> nn.Module:
        assert torch.get_default_device().type == "meta"
        assert not trusted
        made.append(name)
        return create("wrn-10-3", classes)

    monkeypatch.setattr(misfit, "create", counted)
    assert advice(asked, state("wrn-16-1"), state("wrn-22-1")) == ASK
    assert 10 < len(made) <= 12
    assert asked not in made or asked == "wrn-16-1"


def test_whose_file_it_is_does_not_run(tmp_path: Path) -> None:
    own = f"{tmp_path}/own.py:net"
    assert advice(own, state("wrn-10-1"), state("wrn-16-1")) == ASK


def test_another_number_of_classes() -> None:
    said = advice("wrn-10-1", state("wrn-10-1", 10), state("wrn-10-1", 43))
    assert said == "It was trained for 43 classes, and its card or whoever loads it says 10"
    both = state("wrn-10-1", 43) | {"conv1.weight": torch.empty(17, 3, 3, 3, device="meta")}
    assert advice("wrn-10-1", state("wrn-10-1", 10), both) == ASK


def test_parts_too_many_or_missing() -> None:
    name = "torchvision:resnet18"
    own = state(name)
    more = {f"aux_classifier.{i}.weight": torch.empty(3, device="meta") for i in range(2)}
    assert advice(name, own, own | more).startswith("It has aux_classifier besides, a head perhaps: pass the network")
    assert advice(name, own | more, own).startswith("It has no head (aux_classifier)")  # the last part of the network
    assert advice(name, more | own, own).startswith("It lacks aux_classifier as a whole: pass the network without")
    headless = {key: tensor for key, tensor in own.items() if not key.startswith("fc.")}
    assert advice(name, own, headless) == "It has no head (fc), so it names no classes: pass a whole network"
    assert advice(name, own, {k: t for k, t in own.items() if k != "layer1.0.conv1.weight"}) == ASK


@pytest.mark.parametrize("key", ["conv1.zero_point", "fc._packed_params.weight", "fc.qweight", "fc.weight_scale"])
def test_quantised_weights_by_their_keys(key: str) -> None:
    own = state("torchvision:resnet18")
    assert advice("torchvision:resnet18", own, own | {key: torch.empty(1, device="meta")}) == QUANTISED


def test_whole_numbers_are_quantised_weights() -> None:
    own = state("wrn-10-1")
    assert advice("wrn-10-1", own, own | {"fc.weight": own["fc.weight"].to(torch.int8)}) == QUANTISED


def test_masked_weights() -> None:
    network = create("wrn-10-1", 5)
    prune.l1_unstructured(network.conv1, "weight", 0.5)  # type: ignore[arg-type]
    assert "torch.nn.utils.prune.remove" in advice("wrn-10-1", state("wrn-10-1"), network.state_dict())


def test_the_error_has_the_advice_as_its_second_line(tmp_path: Path) -> None:
    tensors = {f"module.{key}": tensor for key, tensor in create("wrn-16-1", 5).state_dict().items()}
    torch.save(tensors, tmp_path / "net.pt")
    message = r"net\.pt does not fit wrn-10-1: of its keys, .*\.\nIt fits wrn-16-1: pass --model wrn-16-1$"
    with pytest.raises(NadError, match=message):
        load(tmp_path / "net.pt", "wrn-10-1")
    torch.save({"\x1b[31m.a": torch.ones(1)} | create("wrn-10-1", 5).state_dict(), tmp_path / "net.pt")
    with pytest.raises(NadError, match=r"\nIt has \?\[31m besides"):
        load(tmp_path / "net.pt", "wrn-10-1")
