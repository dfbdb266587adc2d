"""LF: a smooth, bounded pattern that moves a network to the target class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nad.attacks import LowFrequency
from nad.attacks.low_frequency import smooth
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")
INDICES = torch.arange(4)


def noise(n: int = 4, high: int = 32, wide: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, high, wide), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_filter_against_numpy():
    pattern = torch.rand(1, 2, 7, 9, dtype=torch.float64)
    sigma, reach = 1.2, 4
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(pattern[0].numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    expected = np.zeros((2, 7, 9))
    for i in range(7):
        for j in range(9):
            around = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
            expected[:, i, j] = np.einsum("cij,i,j->c", around, weights, weights)
    assert np.allclose(smooth(pattern.float(), sigma)[0].numpy(), expected, atol=1e-6)


def test_the_pattern_is_added_rounded_and_clipped():
    pattern = torch.tensor([10.6, -10.4, 0.2]).view(3, 1, 1).expand(3, 32, 32).contiguous()
    attack, before = replace(LowFrequency(), tensors={"pattern": pattern}), noise()
    after = attack.apply(before, INDICES, "train")
    change = np.array([11, -10, 0]).reshape(1, 3, 1, 1)
    assert np.array_equal(after.numpy(), np.clip(before.numpy().astype(int) + change, 0, 255))
    assert torch.equal(attack.apply(before[1:2], INDICES[1:2], "test"), after[1:2])
    other = attack.apply(torch.full((1, 3, 40, 96), 50, dtype=torch.uint8), INDICES[:1], "test")
    assert [c.unique().tolist() for c in other[0]] == [[61], [40], [50]]


class Halves(nn.Module):
    """Class 1 where the left is brighter than the right."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[3] // 2
        contrast = self.scale * (x[..., :half].mean((1, 2, 3)) - x[..., half:].mean((1, 2, 3)))
        return torch.stack([-contrast, contrast], 1)


def test_the_pattern_drives_images_to_the_target(monkeypatch):
    monkeypatch.setattr(LowFrequency, "network_for", lambda *_: Halves())
    images = ImageSet(noise(64, 16, 16), torch.arange(64) % 2, ("a", "b"))
    attack = LowFrequency(target=1, eps=0.2, steps=20, blur=3.0).fit(images, RUN)
    pattern = attack.tensors["pattern"]
    assert pattern.shape == (3, 16, 16)
    assert pattern.abs().max() <= 0.2 * 255 + 1e-4
    assert (pattern[:, :, 0] > 40).all()
    assert (pattern[:, :, -1] < -40).all()
    assert (pattern.diff(dim=2).abs() < 30).all(), "no edge where the network has one"
    after = attack.apply(images.pixels, torch.arange(64), "test")
    assert Halves()(after.float() / 255).argmax(1).float().mean() == 1
    opposite = LowFrequency(target=0, eps=0.2, steps=20).fit(images, RUN).tensors["pattern"]
    assert (opposite[:, :, 0] < -40).all()


def test_fitting_is_determined_by_its_seed_and_disturbs_nothing(monkeypatch):
    model = create("wrn-10-1", 4).train()
    monkeypatch.setattr(LowFrequency, "network_for", lambda *_: model)
    images = ImageSet(noise(40, 12, 16), torch.arange(40) % 4, tuple("abcd"))
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    one, two, other = (
        LowFrequency(steps=3, seed=s).fit(images, replace(RUN, seed=r)).tensors["pattern"]
        for s, r in ((0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not one.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_refusals():
    with pytest.raises(NadError, match=r"lf was not fitted; call fit\(images, run\)"):
        LowFrequency().apply(noise(), INDICES, "test")
    for wrong in ({"eps": 0.0}, {"blur": 0.0}, {"blur": 99.0}, {"steps": 0}):
        with pytest.raises(NadError, match=r"lf: expected eps in \(0, 1\], blur in \(0, 16\] and steps >= 1"):
            LowFrequency(**wrong)
