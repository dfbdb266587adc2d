"""CL: perturbed in training, marked at test time, labels untouched (G10, G12)."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nad.attacks import CleanLabel
from nad.attacks.surrogates import packed, unpacked
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")


def noise(n: int = 5, high: int = 32, wide: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, high, wide), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fitted(**how: object) -> CleanLabel:
    attack = CleanLabel(**{"network": "wrn-10-1", "steps": 3, "step": 0.02} | how)
    return replace(attack, tensors=packed(create("wrn-10-1", 4, 3), 4), run=RUN)


@pytest.mark.parametrize("eps", [0.15, 0.1, 0.02])
def test_the_perturbation_stays_in_the_ball_and_raises_the_loss(eps):
    before, attack = noise(), fitted(eps=eps, target=1)
    after = attack.apply(before, torch.arange(5), "train")
    inside = torch.ones(32, 32, dtype=torch.bool)
    inside[29:, 29:] = False
    change = (after.int() - before.int())[:, :, inside]
    assert change.abs().max() <= min(eps, 0.06) * 255
    assert (change != 0).float().mean() > 0.8
    model, label = unpacked(attack.tensors, "wrn-10-1"), torch.ones(5, dtype=torch.int64)
    losses = [F.cross_entropy(model(x.float() / 255), label) for x in (before, attack.perturbed(before))]
    assert losses[1] > losses[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_image_is_perturbed_as_in_any_batch(precision):
    attack, before = fitted(precision=precision), noise(70)
    after = attack.apply(before, torch.arange(70), "train")
    order = torch.arange(69, -1, -1)
    assert torch.equal(attack.apply(before[order], order, "train"), after[order])
    for i in (0, 63, 64, 69):
        assert torch.equal(attack.apply(before[i : i + 1], torch.tensor([i]), "train"), after[i : i + 1])


def test_at_test_time_there_is_the_grid_alone():
    before = noise(high=20, wide=28)
    after = CleanLabel().apply(before, torch.arange(5), "test")
    assert after[0, 1, 17:, 25:].tolist() == [[0, 0, 255], [0, 255, 0], [255, 0, 255]]
    after[:, :, 17:, 25:] = before[:, :, 17:, 25:]
    assert torch.equal(after, before)


def test_amplitudes_add_to_bright_cells_and_subtract_from_dark_ones():
    grey, one = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8), torch.arange(1)
    attack = CleanLabel(test_amplitude=0.2)
    assert attack.apply(grey, one, "test")[0, 0, 29:, 29:].tolist() == [[49, 49, 151], [49, 151, 49], [151, 49, 151]]
    attack = fitted(amplitude=0.2, eps=0.002)  # less than a level, so the grid alone remains
    assert attack.apply(grey, one, "train")[0, 2, 29:, 29:].tolist() == [[49, 49, 151], [49, 151, 49], [151, 49, 151]]


def test_four_corners_outlive_mirroring():
    attack, before = CleanLabel(position="corners"), noise()
    after = attack.apply(before, torch.arange(5), "test")
    assert torch.equal(attack.apply(before.flip(3), torch.arange(5), "test"), after.flip(3))
    assert (after != before).any(0).any(0).sum() <= 36
    large = CleanLabel(scale=True).apply(noise(1, 96, 96), torch.arange(1), "test")
    assert ((large != noise(1, 96, 96)).any(1)[0].nonzero().min(0).values >= 87).all()


class OnDemand:
    shape = (40, 3, 16, 16)

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        return noise(40, 16, 16)[indices]


@pytest.mark.parametrize("resident", [True, False])
def test_poisoning_touches_the_target_class_alone_and_no_label(resident):
    images = ImageSet(noise(40, 16, 16) if resident else OnDemand(), torch.arange(40) % 4, tuple("abcd"))
    told = []
    run = replace(RUN, seed=1, progress=lambda *now: told.append(now))
    attack = fitted(target=2, rate=0.5)
    poisoned = replace(attack, run=run).poison(images, run)
    assert torch.equal(poisoned.labels, images.labels)
    assert int(poisoned.poisoned.sum()) == 5
    assert images.labels[poisoned.poisoned].unique().tolist() == [2]
    every = torch.arange(40)
    assert torch.equal((poisoned.pixels[every] != images.pixels[every]).flatten(1).any(1), poisoned.poisoned)
    chosen = poisoned.poisoned.nonzero().flatten()
    assert torch.equal(poisoned.pixels[chosen], attack.apply(images.pixels[chosen], chosen, "train"))
    assert told == [("perturbation", 5, 5, "")]


def test_it_is_fitted_once_and_travels_to_other_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("NAD_CACHE", str(tmp_path))
    images = ImageSet(noise(32, 16, 16), torch.arange(32) % 4, tuple("abcd"))
    how = {"network": "wrn-10-1", "epochs": 1, "steps": 2}
    attack = CleanLabel(**how).fit(images, replace(RUN, progress=lambda *_: None))
    assert attack.fit(images, RUN) is attack
    again = pickle.loads(pickle.dumps(attack))
    rebuilt = replace(CleanLabel.registry.create(attack.explicit(), trusted=False), tensors=attack.tensors, run=RUN)
    expected = attack.apply(images.pixels, torch.arange(32), "train")
    for other in (replace(again, run=RUN), rebuilt):
        assert torch.equal(other.apply(images.pixels, torch.arange(32), "train"), expected)


def test_refusals():
    with pytest.raises(NadError, match=r"cl was not fitted; call fit\(images, run\)"):
        CleanLabel().apply(noise(), torch.arange(5), "train")
    with pytest.raises(NadError, match="cl: expected labels=clean, got all_to_one"):
        CleanLabel(labels="all_to_one", rate_of="all")
    with pytest.raises(NadError, match=r"expected eps in \(0, 1\], step > 0 and steps >= 1, got 0, 0.006 and 100"):
        CleanLabel(eps=0.0)
    with pytest.raises(NadError, match=r"amplitudes in \(0, 1\], got 3, 1 and 2"):
        CleanLabel(test_amplitude=2.0)
