"""Universal perturbations: the one of a linear network by hand, and what they reach."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.inversion import Universal, reached, universal
from nad.results import Count
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def linear(classes: int, side: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))


def grey(count: int, classes: int, side: int) -> ImageSet:
    pixels = torch.full((count, 3, side, side), 128, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % classes, tuple(map(str, range(classes))))


def test_of_a_linear_network_it_is_the_difference_of_two_rows():
    model = linear(2, 4)
    found = universal(model, grey(8, 2, 4), [0, 1], Universal(rms=0.05, steps=30, batch=4), RUN)
    weight = model[1].weight.detach()
    away = (weight[1] - weight[0]).view(3, 4, 4)
    expected = 0.05 * 48**0.5 * away / away.norm()
    assert torch.allclose(found[1], expected, atol=1e-5)
    assert torch.allclose(found[0], -expected, atol=1e-5)


def test_classes_in_groups_are_what_they_are_together(monkeypatch):
    model, images, how = linear(5, 4), grey(20, 5, 4), Universal(steps=5, batch=4)
    together = universal(model, images, range(5), how, RUN)
    monkeypatch.setattr("nad.inversion.portions.AT_ONCE", 8)
    assert torch.allclose(universal(model, images, range(5), how, RUN), together, atol=1e-6)
    assert torch.allclose(universal(model, images, [3], how, RUN), together[3:4], atol=1e-6)


def test_the_network_is_as_it_was():
    model = linear(2, 4).train()
    model[1].bias.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    universal(model, grey(8, 2, 4), [0], Universal(steps=2), RUN)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


class Brightest(nn.Module):
    """Answers with the channel that is brightest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_what_is_reached_is_counted_on_images_of_other_classes():
    pixels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    for row, (channel, value) in enumerate([(0, 255), (1, 51), (2, 51), (2, 204)]):
        pixels[row, channel] = value
    images = ImageSet(pixels, torch.tensor([0, 1, 2, 2]), ("red", "green", "blue"))

    def redder(x: torch.Tensor, to: int) -> torch.Tensor:
        return x + torch.tensor([0.5, 0, 0]).view(3, 1, 1)

    assert reached(Brightest(), images, [0], redder, RUN) == [Count(2, 3)]  # 0.5 beats 0.2 twice, and not 0.8
    assert reached(Brightest(), images, [2], redder, RUN) == [Count(0, 2)]


@pytest.mark.parametrize("wrong", [{"rms": 0.0}, {"rms": 1.5}, {"steps": 0}, {"batch": 0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(NadError, match=r"expected rms in \(0, 1\], steps and batch >= 1, got"):
        Universal(**wrong)
