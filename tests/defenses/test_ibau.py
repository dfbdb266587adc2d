"""I-BAU: the hypergradient against numerical differentiation on a problem small enough to solve."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import IBAU
from nad.models.create import create
from nad.runtime import Run

RUN = Run(seed=1, device="cpu", precision="fp32")


def test_the_implicit_gradient_of_a_quadratic_problem():
    """Inner: delta* = argmin (delta - w)^2 / 2 + delta^2 / 2 = w / 2; outer (delta* - 3)^2, of gradient w / 2 - 3."""
    w = torch.tensor([2.0], requires_grad=True)
    delta = (w.detach() / 2).requires_grad_()

    def inner(d):
        return ((d - w) ** 2 / 2 + d**2 / 2).sum()

    method = IBAU(fixed_point=60, fixed_point_lr=0.3)
    outer = ((delta - 3) ** 2).sum()
    term = method.answering(inner, delta, outer)
    assert term.item() == 0
    (slope,) = torch.autograd.grad(term, w)
    assert slope.item() == pytest.approx(2 / 2 - 3, rel=1e-4)


def test_few_steps_of_the_fixed_point_give_the_truncated_series():
    w = torch.tensor([2.0], requires_grad=True)
    delta = (w.detach() / 2).requires_grad_()
    term = IBAU(fixed_point=2, fixed_point_lr=0.1).answering(
        lambda d: ((d - w) ** 2 / 2 + d**2 / 2).sum(), delta, ((delta - 3) ** 2).sum()
    )
    (slope,) = torch.autograd.grad(term, w)
    # dG/dd = 1 - 0.1 * 2 = 0.8, dG/dw = 0.1, outer' = -4: 0.1 * (1 + 0.8) * -4
    assert slope.item() == pytest.approx(0.1 * 1.8 * -4, rel=1e-5)


def test_the_perturbation_is_one_for_all_images_and_no_longer_than_its_radius():
    images = ImageSet(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), torch.arange(32) % 4, tuple("abcd"))
    model = create("wrn-10-1", 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for radius in (0.5, None):
        delta = IBAU(radius=radius, inner_lr=100.0, batch=16).perturbation(model, images, RUN)
        assert delta.shape == (1, 3, 16, 16)
        assert 0 < delta.norm() <= (radius or 1e6) * 1.0001
    x = images.pixels.float() / 255
    with torch.no_grad():
        answers = model.eval()(x).argmax(1)
        loss = nn.functional.cross_entropy
        assert loss(model(x + delta), answers) > loss(model(x), answers)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_images_stored_by_class_are_mixed(monkeypatch):
    labels = torch.arange(32).div(8, rounding_mode="floor")
    images = ImageSet(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), labels, tuple("abcd"))
    seen, original = [], IBAU.perturbation
    monkeypatch.setattr(IBAU, "perturbation", lambda *given: seen.append(given[2]) or original(*given))
    IBAU(epochs=1, batch=8)(create("wrn-10-1", 4), images, RUN)
    assert seen
    assert all(len(batch.unique()) > 1 for part in seen for batch in part.labels.split(8))
    assert sorted(seen[0].labels.tolist()) == labels.tolist()


def test_batchnorm_keeps_its_statistics():
    images = ImageSet(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), torch.arange(32) % 4, tuple("abcd"))
    model = create("wrn-10-1", 4)
    after = IBAU(epochs=1, batch=16)(model, images, RUN).model
    assert torch.equal(after.bn1.running_mean, model.bn1.running_mean)
    assert not torch.equal(after.fc.weight, model.fc.weight)
