"""Attention maps and the distillation loss between them: pure functions on tensors.

Source: Li et al., "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks",
ICLR 2021, Section 3.2, Equations 1 and 2. Everything is computed in fp32 whatever the precision around it.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nad.errors import NadError

Operator = Literal["sum", "mean", "raw"]
Form = Literal["sq", "eq2", "mse"]


def attention_map(features: Tensor, operator: Operator = "sum", p: float = 2.0) -> Tensor:
    """Reduce activations over their channels.

    Args:
        features: (N, C, H, W), any floating dtype.
        operator: `sum` is A_sum^p, the sum of |F_c|^p over c; `mean` is A_mean^p, the same divided by C;
            `raw` is the activation itself (Appendix I).
        p: exponent, at least 1; the paper's default is 2.

    Returns:
        fp32 (N, H, W); (N, C, H, W) for `raw`.

    After `normalised`, `sum` and `mean` are the same map: the factor 1/C cancels.
    """
    if operator != "raw" and p == 2:
        energy: Tensor = _SumOfSquares.apply(features)
        return energy if operator == "sum" else energy / features.shape[1]
    features = features.float()
    if operator == "raw":
        return features
    powers = features.abs() if p == 1 else features.abs().pow(p)
    return powers.sum(1) if operator == "sum" else powers.mean(1)


class _SumOfSquares(torch.autograd.Function):
    """(N, C, H, W) to the fp32 sum of squares over C, one pass backward where autograd takes three."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        wide = features.float()
        return (wide * wide).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        return (features * (2 * gradient)[:, None]).to(features.dtype)


def normalised(maps: Tensor) -> Tensor:
    """Flatten each sample and divide it by its L2 norm: (N, P). A map of zeros stays zero, with a finite gradient."""
    return F.normalize(maps.flatten(1), dim=1)


def normalised_difference(student: Tensor, teacher: Tensor, operator: Operator, p: float) -> Tensor:
    """q_S - q_T, shape (N, P), of two activations; the larger map is average-pooled to the size of the smaller.

    Args:
        student, teacher: (N, C, H, W); C may differ except for `raw`, H and W may differ.

    Raises:
        NadError: `raw` with different channels, or a map of one position, where the loss would be constant.
    """
    if operator == "raw" and student.shape[1] != teacher.shape[1]:
        raise NadError(
            f"attention=raw needs equal channels, got {student.shape[1]} (student) and {teacher.shape[1]} (teacher); "
            "use attention=sum"
        )
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    if operator != "raw" and size == (1, 1):
        raise NadError("a map of one position is always 1 after normalising, so its loss is dead; tap an earlier stage")
    if p > 2:  # scale cancels, but not in numbers too small to be told from zero
        student, teacher = _at_most_one(student), _at_most_one(teacher)
    maps = [attention_map(f, operator, p) for f in (student, teacher)]
    pooled = [m if tuple(m.shape[-2:]) == size else F.adaptive_avg_pool2d(m, size) for m in maps]
    return normalised(pooled[0]) - normalised(pooled[1])


def _at_most_one(features: Tensor) -> Tensor:
    """Each sample divided by its largest entry, as a constant."""
    wide = features.float()
    peak = wide.detach().abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    return wide / torch.where(peak > 0, peak, 1)


def distances(difference: Tensor) -> Tensor:
    """d_b, the L2 norm of each row of a (N, P) `normalised_difference`; its gradient at 0 is 0."""
    return torch.linalg.vector_norm(difference, dim=1)


def reduced(difference: Tensor, form: Form = "sq") -> Tensor:
    """The attention term of one stage, a scalar, from a (N, P) `normalised_difference`.

    With d_b the distance of sample b, in 0..sqrt(2) (raw: 0..2), and P the entries of a map:

    - `eq2`: mean_b d_b, the paper's Equation 2, a norm that is not squared.
    - `sq` (default): mean_b d_b^2.
    - `mse`: mean_b d_b^2 / P, the mean over all entries that the released code computes.
    """
    if form == "eq2":
        return distances(difference).mean()
    return difference.square().mean() if form == "mse" else difference.square().sum(1).mean()


def distillation_loss(
    student: Tensor, teacher: Tensor, operator: Operator = "sum", p: float = 2.0, form: Form = "sq"
) -> Tensor:
    """The attention term of one stage from two (N, C, H, W) activations; gradients flow to whichever requires them."""
    return reduced(normalised_difference(student, teacher, operator, p), form)


def convert_beta(beta: float, source: Form, target: Form, positions: int, distance: float | None = None) -> float:
    """The weight in convention `target` that equals `beta` in convention `source` for a map of `positions` entries.

    `sq` and `mse` convert exactly (beta_sq = beta_mse / P). `eq2` is not squared, so no constant is exact: it
    has the same gradient only at the operating point d = `distance`, where beta_eq2 = 2 d beta_sq.

    Raises:
        NadError: a conversion to or from `eq2` without a positive `distance`.
    """
    if source == target:
        return beta
    if "eq2" in (source, target) and (distance is None or distance <= 0):
        raise NadError("converting to or from eq2 needs the distance d > 0 at which the gradients should agree")
    factor = {"sq": 1.0, "mse": 1.0 / positions, "eq2": 1.0 / (2 * distance) if distance else 1.0}
    return beta * factor[source] / factor[target]
