"""Projected gradient ascent (G12)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nad.errors import NadError
from nad.inversion import Ascent, pgd
from nad.models.create import create

HOW = Ascent(eps=8 / 255, step=2 / 255, steps=8)


@pytest.fixture
def model() -> nn.Module:
    return create("wrn-10-1", 4, seed=3)


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, 12, 16, generator=generator), torch.arange(n) % 4


def losses(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model.eval()(x), y, reduction="none")


@pytest.mark.parametrize("start", [None, 5])
@pytest.mark.parametrize("eps", [0.15, 1 / 255])
def test_it_stays_in_the_ball_and_in_range(model, start, eps):
    x, y = batch()
    generator = None if start is None else torch.Generator().manual_seed(start)
    found = pgd(model, x, y, Ascent(eps=eps, step=0.1, steps=4), generator)
    assert (found - x).abs().max() <= eps + 1e-6
    assert (found - x).abs().max() > eps * 0.9
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad


def test_the_network_is_used_in_eval_mode_and_left_as_it_was(model):
    x, y = batch()
    model.train()
    model.bn1.eval()
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = []
    model.block1.register_forward_pre_hook(lambda m, _: modes.append(m.training))
    kept = x.clone()
    pgd(model, x, y, HOW)
    assert modes == [False] * 8
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.conv1.weight.grad, torch.ones_like(model.conv1.weight))
    assert all(p.grad is None for k, p in model.named_parameters() if k != "conv1.weight")
    assert torch.equal(x, kept)


def test_the_loss_rises_with_the_steps_and_falls_for_a_target(model):
    x, y = batch()
    means = [losses(model, x, y).mean().item()]
    means += [losses(model, pgd(model, x, y, Ascent(eps=0.1, step=0.01, steps=n)), y).mean().item() for n in (1, 4, 8)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.01
    towards = pgd(model, x, y, Ascent(eps=0.1, step=0.01, steps=8, targeted=True))
    assert losses(model, towards, y).mean() < means[0] - 0.01


def test_one_step_on_a_linear_network_is_the_sign_of_its_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, 2))
    x, y = torch.full((1, 3, 2, 2), 0.5), torch.tensor([0])
    found = pgd(model, x, y, Ascent(eps=0.1, step=0.04, steps=2))
    away = (model[1].weight[1] - model[1].weight[0]).sign().view(1, 3, 2, 2)
    assert torch.allclose(found, 0.5 + 0.08 * away)
    assert torch.allclose(pgd(model, x, y, Ascent(eps=0.1, step=0.04, steps=9)), 0.5 + 0.1 * away)


def test_the_start_comes_from_its_generator_alone(model):
    x, y = batch()
    state = torch.get_rng_state()
    one, two, other = (pgd(model, x, y, HOW, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    far = Ascent(eps=0.2, step=1e-9, steps=1)
    spread = pgd(model, torch.full_like(x, 0.5), y, far, torch.Generator().manual_seed(1)) - 0.5
    assert abs(spread.mean()) < 0.02
    assert spread.std() == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_refusals():
    for wrong in ({"eps": 0.0}, {"eps": 2.0}, {"step": 0.0}, {"steps": 0}):
        with pytest.raises(NadError, match=r"expected eps in \(0, 1\], step > 0 and steps >= 1"):
            Ascent(**{"eps": 0.1, "step": 0.1, "steps": 1} | wrong)
