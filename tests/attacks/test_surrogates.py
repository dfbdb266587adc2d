"""The networks that attacks are computed on, and the cache that keeps them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nad.attacks import ATTACKS
from nad.attacks.surrogates import adversarial, cached, packed, recipe, unpacked
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.card import Card
from nad.models.checkpoints import save
from nad.models.create import create
from nad.models.normalize import Normalized
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")


def tiny(classes: int = 4) -> ImageSet:
    pixels = torch.randint(0, 256, (48, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(48) % classes, tuple("abcdefgh"[:classes]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "surrogates"


def made(images: ImageSet | None = None, eps: float = 0.0, run: Run = RUN, epochs: int = 1) -> dict[str, torch.Tensor]:
    fresh = create("wrn-10-1", 4, run.seed)
    model = cached(fresh, "wrn-10-1", images or tiny(), recipe(epochs), run, eps)
    assert not model.training
    return model.state_dict()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, two[k]) for k, v in one.items())


def test_it_is_trained_once_and_then_read(cache, monkeypatch):
    first = made()
    (folder,) = cache.iterdir()
    assert {f.name for f in folder.iterdir()} == {"model.safetensors", "model.json"}
    monkeypatch.setattr("nad.attacks.surrogates.fit", lambda *_, **__: pytest.fail("trained again"))
    assert same(made(), first)


def test_all_that_determines_the_weights_has_its_own_file(cache):
    other = replace(tiny(), pixels=255 - tiny().pixels)
    for change in ({}, {"images": other}, {"eps": 0.03}, {"run": replace(RUN, seed=1)}, {"epochs": 2}):
        made(**change)
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "flip", "no card", "no weights"])
def test_a_damaged_file_is_noticed_and_made_again(cache, damage):
    first = made()
    (folder,) = cache.iterdir()
    file = folder / "model.safetensors"
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[:-100])
        case "flip":
            file.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
        case "no card":
            (folder / "model.json").unlink()
        case "no weights":
            file.unlink()
    assert same(made(), first)
    assert file.read_bytes() == content
    assert (folder / "model.json").is_file()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "file"))
    assert made()


def test_training_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    first = made(eps=0.03)
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(made(), first), "adversarial training is another training"


def test_the_adversarial_step_trains_on_images_at_the_edge_of_the_ball():
    model, seen = create("wrn-10-1", 4), []
    step = adversarial(model.train(), 0.03, RUN)
    x, y = torch.rand(4, 3, 8, 8) * 0.5 + 0.25, torch.arange(4)
    model.register_forward_pre_hook(lambda m, inputs: seen.append((m.training, inputs[0])))
    step(model, x, y)["loss"].backward()
    assert [mode for mode, _ in seen] == [False, True]
    moved = (seen[1][1] - x).abs()
    assert 0.02 < moved.mean() < 0.028, "the start is random, so not every value ends at the edge"
    assert 0.0299 < moved.max() <= 0.03 + 1e-6
    assert model.conv1.weight.grad is not None


def test_a_network_survives_packing():
    given = Normalized(create("wrn-10-1", 4, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)).eval()
    again = unpacked(packed(given, 4), "wrn-10-1")
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(again(x), given(x))
    assert not again.training


def test_tensors_of_another_network_are_refused():
    tensors = packed(create("wrn-10-1", 4), 4)
    with pytest.raises(NadError, match="no wrn-16-1: keys or shapes differ; fit the attack again"):
        unpacked(tensors, "wrn-16-1")
    with pytest.raises(NadError, match="keys or shapes differ"):
        unpacked(tensors | {"classes": torch.tensor([2**40])}, "wrn-10-1")
    with pytest.raises(NadError, match="may only be named by yourself"):
        unpacked(tensors, "evil.py:make")


def checkpoint(folder: Path, classes: int) -> Path:
    folder.mkdir()
    names = tuple(map(str, range(classes)))
    save(folder, create("wrn-10-1", classes, 9), Card(architecture="wrn-10-1", classes=names))
    return folder


def test_a_checkpoint_of_the_users_own_is_used(tmp_path, cache):
    folder = checkpoint(tmp_path / "own", 4)
    attack = ATTACKS.create(f"trojan:surrogate={folder},network=wrn-10-1")
    assert same(attack.network_for(tiny(), RUN).state_dict(), create("wrn-10-1", 4, 9).state_dict())
    assert not cache.exists()
    assert "surrogate" not in attack.explicit()


def test_refusals(tmp_path):
    folder = checkpoint(tmp_path / "own", 3)
    with pytest.raises(
        NadError, match=r"trojan: expected a surrogate for the 4 .* a surrogate with other classes \(3\)"
    ):
        ATTACKS.create(f"trojan:surrogate={folder},network=wrn-10-1").fit(tiny(), RUN)
    with pytest.raises(NadError, match=r"(?s)trojan: surrogate: .*does not fit wrn-16-1.*Say its .* with network="):
        ATTACKS.create(f"trojan:surrogate={folder}").fit(tiny(), RUN)
    with pytest.raises(NadError, match="surrogate is refused in a specification that comes from a file"):
        ATTACKS.create(f"trojan:surrogate={folder}", trusted=False)
    with pytest.raises(NadError, match="may only be named by yourself"):
        ATTACKS.create("trojan:network=evil.py:make").fit(tiny(), RUN)
