"""Generators of triggers: places, shapes, information, and a patch that is learned."""

import math

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion.generators import NOISE, Generators, Stacked, Staircase, Statistics, model_triggers, pasted
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def test_patches_are_pasted_whole_and_at_different_places():
    x = torch.zeros(40, 3, 6, 8)
    patches = torch.arange(1.0, 13).repeat(40, 1)
    out = pasted(x, patches, torch.Generator().manual_seed(0))
    places = set()
    for image in out:
        rows, columns = image[0].nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        places.add((top, left))
        assert torch.equal(image[:, top : top + 2, left : left + 2], torch.arange(1.0, 13).view(3, 2, 2))
        assert int((image != 0).sum()) == 12
    assert max(p[0] for p in places) == 4
    assert max(p[1] for p in places) == 6
    assert len(places) > 10


def test_layers_side_by_side_are_layers_one_by_one():
    stacked = Stacked(3, 5, 4, torch.Generator().manual_seed(0))
    x = torch.randn(3, 7, 5)
    for k in range(3):
        assert torch.allclose(stacked(x)[k], x[k] @ stacked.weight[k] + stacked.bias[k], atol=1e-6)


def test_patches_are_pixels_and_depend_on_the_noise():
    makers = Generators(3, 2, torch.Generator().manual_seed(0))
    out = makers(torch.rand(3, 16, NOISE))
    assert out.shape == (3, 16, 12)
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.std(1).min() > 0


def test_the_bound_on_information_is_the_formulas():
    judges = Statistics(2, 1, torch.Generator().manual_seed(0))
    noise, patches = torch.rand(2, 8, NOISE), torch.rand(2, 8, 3)
    joint, marginal = judges._value(noise, patches), judges._value(noise, patches.roll(1, 1))
    expected = joint.mean(1) - marginal.exp().mean(1).log()
    assert torch.allclose(judges(noise, patches), expected, atol=1e-5)
    assert math.isfinite(judges(noise, patches).sum().item())


class Red(nn.Module):
    """Class 1 where any pixel is fully red, class 0 otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = (x[:, 0] - x[:, 1]).amax((1, 2))
        return self.scale * torch.stack([0.5 - red, red - 0.5], 1)


def test_a_red_patch_is_learned():
    images = ImageSet(torch.full((64, 3, 8, 8), 100, dtype=torch.uint8), torch.arange(64) % 2, ("a", "b"))
    (makers,) = model_triggers(Red(), images, Staircase(size=2, levels=(0.9,), epochs=120, batch=32, lr=2e-3), RUN)
    patches = makers(torch.rand(2, 64, NOISE)).view(2, 64, 3, 4)
    redness = (patches[:, :, 0] - patches[:, :, 1]).amax(2).mean(1)
    assert redness[1] > 0.5
    assert redness[1] > redness[0] + 0.3


def test_settings_out_of_range():
    with pytest.raises(NadError, match=r"levels in \(0, 1\], got 3, 10, 128 and 1.5"):
        Staircase(levels=(1.5,))
    images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(NadError, match="the patch is 9 pixels and the images are 8x8"):
        model_triggers(Red(), images, Staircase(size=9), RUN)
