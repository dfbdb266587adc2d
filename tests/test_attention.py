"""Attention and its loss against hand-computed values, a NumPy oracle and their invariances (G1-G4, G6)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nad.attention import attention_map, convert_beta, distances, distillation_loss, normalised, normalised_difference
from nad.errors import NadError

TEACHER = torch.tensor([[[[1.0, 0], [0, 2]], [[0, 1], [1, 0]]]])
STUDENT = torch.tensor([[[[0.0, 2], [1, 0]], [[1, 0], [0, -2]]]])


def d(student: Tensor, teacher: Tensor, operator="sum", p=2.0) -> Tensor:
    return distances(normalised_difference(student, teacher, operator, p))


def oracle(student: np.ndarray, teacher: np.ndarray, operator: str, p: float, form: str) -> float:
    """The formulas again, with loops and without torch."""
    total = []
    for s, t in zip(student, teacher):
        vectors = []
        for f in (s, t):
            if operator == "raw":
                a = f.reshape(-1)
            else:
                a = np.zeros(f.shape[1:])
                for channel in f:
                    a = a + np.abs(channel) ** p
                a = (a / len(f) if operator == "mean" else a).reshape(-1)
            norm = math.sqrt(float((a * a).sum()))
            vectors.append(a / norm if norm > 0 else a)
        squared = float(((vectors[0] - vectors[1]) ** 2).sum())
        total.append({"eq2": math.sqrt(squared), "sq": squared, "mse": squared / len(vectors[0])}[form])
    return sum(total) / len(total)


@pytest.mark.parametrize(
    ("operator", "p", "distance"),
    [("sum", 1, 0.2960308), ("sum", 2, 0.5185009), ("mean", 1, 0.2960308), ("mean", 2, 0.5185009), ("raw", 2, 2**0.5)],
)
def test_hand_computed_distances(operator, p, distance):
    assert d(STUDENT, TEACHER, operator, p).item() == pytest.approx(distance, abs=1e-6)


def test_hand_computed_maps_and_losses():
    assert attention_map(TEACHER, "sum", 1).flatten().tolist() == [1, 1, 1, 2]
    assert attention_map(STUDENT, "sum", 1).flatten().tolist() == [1, 2, 1, 2]
    assert attention_map(TEACHER, "sum", 2).flatten().tolist() == [1, 1, 1, 4]
    assert attention_map(STUDENT, "sum", 2).flatten().tolist() == [1, 4, 1, 4]
    assert attention_map(STUDENT, "mean", 2).flatten().tolist() == [0.5, 2, 0.5, 2]
    assert distillation_loss(STUDENT, TEACHER, "sum", 1, "sq").item() == pytest.approx(0.0876342, abs=1e-6)
    assert distillation_loss(STUDENT, TEACHER, "sum", 1, "mse").item() == pytest.approx(0.0219086, abs=1e-6)
    squared = distillation_loss(STUDENT, TEACHER, "sum", 2, "sq").item()
    assert squared == pytest.approx(0.2688432, abs=1e-6)
    assert distillation_loss(STUDENT, TEACHER, "sum", 2, "mse").item() == pytest.approx(0.0672108, abs=1e-6)
    cosine = (normalised(attention_map(STUDENT)) * normalised(attention_map(TEACHER))).sum().item()
    assert cosine == pytest.approx(0.8655784, abs=1e-6)
    assert squared == pytest.approx(2 * (1 - cosine), abs=1e-6)


@pytest.mark.parametrize("form", ["eq2", "sq", "mse"])
@pytest.mark.parametrize(("operator", "p"), [("sum", 1), ("sum", 2), ("sum", 3), ("mean", 2), ("raw", 2)])
def test_agrees_with_the_numpy_oracle(operator, p, form):
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, 4, 6), torch.randn(5, 3, 4, 6)
    expected = oracle(student.double().numpy(), teacher.double().numpy(), operator, p, form)
    assert distillation_loss(student, teacher, operator, p, form).item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), channels=st.integers(1, 5), p=st.sampled_from([1.0, 2.0])
)
def test_invariances(seed, scale, channels, p):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(3, channels, 4, 4, generator=generator) for _ in range(2))
    reference = d(student, teacher, p=p)
    signs = torch.randint(0, 2, (1, channels, 1, 1), generator=generator) * 2 - 1
    order = torch.randperm(channels, generator=generator)
    for same in (student * scale, student * signs, student[:, order], torch.cat([student, student], 1)):
        torch.testing.assert_close(d(same, teacher, p=p), reference, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(d(student.flip(3), teacher.flip(3), p=p), reference, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(d(student, teacher, "mean", p), reference, atol=2e-6, rtol=1e-5)
    assert bool((reference <= math.sqrt(2) + 1e-6).all())


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("scale", [1e-5, 1e6])
def test_the_scale_cancels_however_small_it_is(p, scale):
    student, teacher = (torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    torch.testing.assert_close(d(student * scale, teacher, p=p), d(student, teacher, p=p), atol=2e-6, rtol=1e-4)
    assert d(torch.zeros(1, 2, 4, 4), teacher[:1], p=p).item() == pytest.approx(1)


def test_the_raw_map_is_changed_by_a_sign():
    flipped = STUDENT * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    assert d(flipped, STUDENT, "sum").item() == 0
    assert d(flipped, STUDENT, "raw").item() == pytest.approx(math.sqrt(2))


def test_bounds_and_degenerate_maps():
    teacher, student = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    teacher[..., 0, 0], student[..., 1, 1] = 1, 1
    assert d(student, teacher).item() == pytest.approx(math.sqrt(2))
    assert distillation_loss(student, teacher, form="mse").item() == pytest.approx(0.5)
    with pytest.raises(NadError, match="one position"):
        distillation_loss(torch.ones(1, 3, 1, 1), torch.rand(1, 3, 1, 1))


@pytest.mark.parametrize("form", ["eq2", "sq", "mse"])
def test_equal_and_zero_maps_have_finite_gradients(form):
    for student, teacher in ((STUDENT, STUDENT), (torch.zeros(2, 3, 2, 2), torch.rand(2, 3, 2, 2))):
        leaf = student.clone().requires_grad_()
        loss = distillation_loss(leaf, teacher.clone(), form=form)
        loss.backward()
        assert math.isfinite(loss.item())
        assert bool(leaf.grad.isfinite().all())
    leaf = STUDENT.clone().requires_grad_()
    loss = distillation_loss(leaf, STUDENT, form=form)
    loss.backward()
    assert loss.item() == 0
    assert leaf.grad.abs().max() == 0


def test_eq2_is_a_mean_of_norms_and_not_a_norm_of_the_batch():
    difference = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert distances(difference).mean().item() == 2.5


@pytest.mark.parametrize("positions", [64, 256, 1024])
def test_beta_conversion_is_exact_between_sq_and_mse(positions):
    side = math.isqrt(positions)
    torch.manual_seed(positions)
    student, teacher = torch.randn(4, 3, side, side), torch.randn(4, 3, side, side)
    by_mse = 1000 * distillation_loss(student, teacher, form="mse")
    by_sq = convert_beta(1000, "mse", "sq", positions) * distillation_loss(student, teacher, form="sq")
    torch.testing.assert_close(by_mse, by_sq, rtol=1e-5, atol=0)


def test_beta_conversion_values():
    converted = [convert_beta(b, "mse", "sq", p) for b, p in ((500, 1024), (1000, 256), (1000, 64))]
    assert converted == [0.48828125, 3.90625, 15.625]
    assert convert_beta(3, "sq", "eq2", 64, distance=0.5) == 3
    assert convert_beta(convert_beta(7, "mse", "eq2", 64, 0.3), "eq2", "mse", 64, 0.3) == pytest.approx(7)
    with pytest.raises(NadError, match="distance"):
        convert_beta(3, "sq", "eq2", 64)


def test_eq2_beta_gives_the_same_gradient_at_the_operating_point():
    student = STUDENT.clone().requires_grad_()
    distance = d(student, TEACHER).item()
    (by_sq,) = torch.autograd.grad(3 * distillation_loss(student, TEACHER, form="sq"), student)
    beta = convert_beta(3, "sq", "eq2", 4, distance)
    (by_eq2,) = torch.autograd.grad(beta * distillation_loss(student, TEACHER, form="eq2"), student)
    torch.testing.assert_close(by_sq, by_eq2)


def test_half_precision_activations_do_not_overflow():
    features = torch.full((2, 64, 4, 4), 300.0, dtype=torch.float16)
    features[:, :, 0] = -300
    loss = distillation_loss(features, torch.rand(2, 64, 4, 4).half())
    assert attention_map(features).dtype == torch.float32
    assert bool(attention_map(features).isfinite().all())
    assert math.isfinite(loss.item())


def test_memory_layout_does_not_change_the_map():
    features = torch.randn(2, 5, 4, 6)
    last = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(attention_map(last), attention_map(features))


def test_maps_of_different_size_are_pooled_before_they_are_normalised():
    student, teacher = torch.rand(2, 3, 4, 4), torch.rand(2, 7, 8, 8)
    pooled = torch.nn.functional.adaptive_avg_pool2d(attention_map(teacher), 4)
    expected = (normalised(attention_map(student)) - normalised(pooled)).norm(dim=1)
    torch.testing.assert_close(d(student, teacher), expected)
    with pytest.raises(NadError, match="equal channels"):
        d(student, teacher, "raw")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("operator", ["sum", "mean"])
def test_the_gradient_of_a_map_is_that_of_its_formula(operator, dtype):
    features = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    weights = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((attention_map(features, operator) * weights).sum(), features)
    plain = features.detach().double().requires_grad_()
    squares = plain.square().sum(1) if operator == "sum" else plain.square().mean(1)
    (expected,) = torch.autograd.grad((squares * weights).sum(), plain)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=float(torch.finfo(dtype).eps) * 4, atol=1e-6)
