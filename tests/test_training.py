"""Schedules, batches and the loop (G8, G17)."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from nad.data.augment import Draws
from nad.data.batches import Epoch
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run
from nad.training import RECIPES, REGIMES, Recipe, accuracy, cross_entropy, displaced, fit, predictions, re_estimated


def tiny(n: int = 48, classes: int = 4, size: int = 8) -> ImageSet:
    pixels = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(n) % classes, tuple("abcdefgh"[:classes]))


def rates(recipe: Recipe, epochs: int) -> list[float]:
    return [recipe.rate(e, 0, 10) for e in range(epochs)]


def test_the_papers_rate_falls_to_a_tenth_every_two_epochs():
    expected = [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    assert rates(RECIPES["paper"], 10) == pytest.approx(expected)


def test_the_released_codes_rate():
    assert rates(RECIPES["reference"], 20) == pytest.approx([0.1, 0.1] + [0.01] * 18)
    assert RECIPES["reference"].rate(20, 0, 10) == pytest.approx(1e-4)


def test_the_victims_rate_ends_at_a_tenth():
    assert rates(REGIMES["paper"], 24) == pytest.approx([0.1] * 20 + [0.01] * 4)


def test_one_cycle_and_cosine_end_at_zero():
    cycle = Recipe(epochs=10, lr=0.2, schedule="onecycle")
    steps = [cycle.rate(e, s, 10) for e in range(10) for s in range(10)]
    assert max(steps) == pytest.approx(0.2)
    assert steps.index(max(steps)) == 20
    assert steps[-1] == pytest.approx(0.2 * 0.01 / 0.8)
    assert Recipe(epochs=10, lr=0.2, schedule="cosine").rate(5, 0, 10) == pytest.approx(0.1)


@pytest.mark.parametrize(("n", "kept", "dropped"), [(500, 8, 8), (2500, 40, 39), (5000, 79, 78), (10000, 157, 157)])
def test_steps_an_epoch(n, kept, dropped):
    assert len(Epoch(torch.arange(n), Draws(), 64).bounds()) == kept
    assert len(Epoch(torch.arange(n), Draws(), 64, min_batch=16).bounds()) == dropped


def test_the_only_batch_is_never_dropped():
    assert Epoch(torch.arange(5), Draws(), 64, min_batch=16).bounds() == [(0, 5)]


def test_one_step_is_sgd_with_nesterov_momentum_and_weight_decay():
    """Two full-batch epochs of a linear network against the update written out."""
    images = tiny(8, 2, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    weights = [p.detach().clone() for p in model.parameters()]
    recipe = Recipe(epochs=2, lr=0.1, schedule="constant", batch=8, min_batch=1, weight_decay=0.01)
    fit(model, images, recipe, Run(precision="fp32", device="cpu"))
    velocity = [torch.zeros_like(w) for w in weights]
    x, y = images.pixels.float().flatten(1) / 255, images.labels
    for _ in range(2):
        leaves = [w.requires_grad_() for w in weights]
        grads = torch.autograd.grad(nn.functional.cross_entropy(x @ leaves[0].T + leaves[1], y), leaves)
        grads = [g + 0.01 * w for g, w in zip(grads, weights)]
        velocity = [0.9 * v + g for v, g in zip(velocity, grads)]
        weights = [(w - 0.1 * (g + 0.9 * v)).detach() for w, g, v in zip(weights, grads, velocity)]
    for parameter, expected in zip(model.parameters(), weights):
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(precision):
    def trained(seed: int) -> torch.Tensor:
        model = create("wrn-10-1", 4)
        recipe = Recipe(epochs=2, batch=16, augment=("crop", "flip", "cutout3"))
        fit(model, tiny(), recipe, Run(seed=seed, precision=precision))
        return torch.cat([v.flatten().float() for v in model.state_dict().values()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 4))
    torch.manual_seed(7)
    fit(model, tiny(), Recipe(epochs=1, batch=16), Run())
    assert torch.equal(torch.rand(3), expected)


def test_dropout_is_seeded_too():
    def trained() -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 4))
        torch.manual_seed(torch.seed() % 2**32)
        fit(model, tiny(), Recipe(epochs=1, batch=16), Run(seed=3))
        return model[2].weight.detach().clone()

    assert torch.equal(trained(), trained())


def test_one_stored_order_or_a_new_one_every_epoch():
    def orders(shuffle: str) -> list[list[int]]:
        images = tiny(32)
        seen: list[list[int]] = []

        def step(model, x, y):
            seen[-1].extend((x.flatten(1).sum(1) * 100).round().int().tolist())
            return cross_entropy(model, x, y)

        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        seen.append([])
        recipe = Recipe(epochs=3, batch=16, shuffle=shuffle)
        fit(model, images, recipe, Run(), step, lambda *_: seen.append([]) or False)
        return seen[:3]

    once, every = orders("once"), orders("epoch")
    assert once[0] == once[1] == once[2]
    assert every[0] != every[1]
    assert sorted(every[0]) == sorted(every[1])


def test_history_and_stopping():
    model = create("wrn-10-1", 4)
    history = fit(model, tiny(), Recipe(epochs=9, batch=16), Run(), after_epoch=lambda e, m, r: e == 3)
    assert [h["epoch"] for h in history] == [1, 2, 3]
    assert all(math.isfinite(h["loss"]) and h["seconds"] > 0 for h in history)
    assert not model.training


def test_a_loss_that_explodes_is_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(NadError, match="the loss became"):
        fit(model, tiny(), Recipe(epochs=60, lr=1e30, schedule="constant", batch=16), Run(precision="fp32"))


def test_predictions_restore_the_mode_and_accuracy_counts():
    model = create("wrn-10-1", 4)
    model.train()
    model.bn1.eval()
    images = tiny()
    predicted = predictions(model, images, Run())
    assert model.training
    assert not model.bn1.training
    assert accuracy(model, images, Run()) == pytest.approx((predicted == images.labels).float().mean().item())


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(NadError, match="expected epochs and batch >= 1 and lr > 0"):
        Recipe(**wrong)


def test_the_flat_schedule_falls_between_half_and_nine_tenths():
    how = Recipe(epochs=10, lr=0.5, schedule="flat")
    assert [how.rate(e, 0, 10) for e in (0, 5)] == pytest.approx([0.5, 0.5])
    assert how.rate(7, 0, 10) == pytest.approx(0.5 * (1 - 0.99 / 2))
    assert [how.rate(9, s, 10) for s in (0, 9)] == pytest.approx([0.005, 0.005])


def test_weights_are_moved_by_the_adaptive_radius_and_come_back_to_the_bit():
    model = nn.Linear(3, 2)
    model.weight.data = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]])
    model.bias.data = torch.tensor([0.5, -1.0])
    model.weight.grad = torch.tensor([[0.1, 0.2, -0.3], [0.0, 5.0, 0.4]])
    model.bias.grad = torch.tensor([-0.2, 0.1])
    before = [p.detach().clone() for p in model.parameters()]
    w, g = (np.concatenate([t.flatten().numpy() for t in ts]) for ts in (before, [p.grad for p in model.parameters()]))
    expected = w + 2.0 * w**2 * g / np.linalg.norm(np.abs(w) * g)
    with displaced(model, 2.0):
        moved = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    assert np.allclose(moved, expected, atol=1e-6)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


def test_a_sharpness_aware_step_takes_the_gradient_where_the_weights_were_moved_to():
    images = tiny(16)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 4))
    given = copy.deepcopy(model)
    how = Recipe(
        epochs=1, lr=0.1, schedule="constant", batch=16, momentum=0.0, nesterov=False, weight_decay=0.0, rho=1.0
    )
    fit(model, images, how, Run(seed=1, device="cpu", precision="fp32"))
    x, y = images.pixels.float() / 255, images.labels
    nn.functional.cross_entropy(given.train()(x), y).backward()
    statistics = given[0].running_mean.clone()
    with displaced(given, 1.0):
        slopes = torch.autograd.grad(nn.functional.cross_entropy(given(x), y), list(given.parameters()))
    for after, before, slope in zip(model.parameters(), given.parameters(), slopes):
        assert torch.allclose(after, before - 0.1 * slope, atol=1e-5)
    assert torch.allclose(model[0].running_mean, statistics, atol=1e-6)  # one pass, not two
    assert int(model[0].num_batches_tracked) == 1


def test_adam_is_adam():
    images = tiny(16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    given = copy.deepcopy(model)
    how = Recipe(epochs=1, lr=0.01, schedule="constant", batch=16, optimizer="adam", weight_decay=0.0)
    fit(model, images, how, Run(seed=1, device="cpu", precision="fp32"))
    optimizer = torch.optim.Adam(given.parameters(), lr=0.01)
    nn.functional.cross_entropy(given(images.pixels.float() / 255), images.labels).backward()
    optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), given.parameters()))


def test_a_training_is_spread_over_devices():
    def trained(devices: int) -> tuple[nn.Module, list]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.ReLU(), nn.Linear(16, 4))
        heard = []
        run = Run(device="cpu", precision="fp32", devices=devices, progress=lambda *said: heard.append(said))
        history = fit(net, tiny(), Recipe(epochs=2, lr=0.05, batch=16, augment=("crop", "flip")), run)
        assert heard[-1][:3] == ("training", 6, 6)
        return net, history

    (one, alone), (two, together) = trained(1), trained(2)
    for mine, theirs in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert together[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=1e-4)
    assert not two.training


def test_what_stops_a_spread_training_is_said_as_on_one_device():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    with pytest.raises(NadError, match=r"^training: the loss became nan in epoch [12]; lower lr or beta$"):
        fit(net, tiny(), Recipe(epochs=2, lr=1e38, batch=16), Run(device="cpu", precision="fp32", devices=2))


def test_batchnorm_is_not_spread_over_processes_of_a_cpu():
    with pytest.raises(NadError, match=r"--devices 2: on cpu BatchNorm would see a part of each batch alone"):
        fit(create("wrn-10-1", 4), tiny(), Recipe(epochs=1), Run(device="cpu", devices=2))


def test_a_last_batch_of_one_image_is_left_out():
    """BatchNorm of a map of one position has no variance of it."""
    net = nn.Sequential(nn.Conv2d(3, 4, 8, padding=0), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4))
    recipe = Recipe(epochs=1, batch=4, min_batch=1)
    assert math.isfinite(fit(net, tiny(9), recipe, Run())[0]["loss"])
    estimated = re_estimated(net, tiny(501), Run())
    assert bool(estimated[1].running_var.isfinite().all())
