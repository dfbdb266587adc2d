"""Refuses to distil through a tap that carries no signal.

A map of one position, or one that is the same everywhere, normalises to a constant: its loss is exactly zero and
the distillation silently becomes fine-tuning. The check asks whether the tap could teach anything, by comparing
the student with a perturbation of itself, so a teacher that happens to agree never sets it off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attention import Operator, attention_map, distillation_loss, normalised
from nad.models.forward import evaluating
from nad.models.stages import Stage, tap

LEAST_SPREAD = 1e-6  # a map that is constant but for rounding has about 1e-7
LEAST_GRADIENT = 1e-6
PERTURBATION = 0.1


@dataclass(frozen=True)
class Signal:
    """What one tap carries.

    Args:
        spread: standard deviation of the normalised map over its positions, relative to a constant map's value.
        gradient: norm of the term's gradient on the student's parameters, relative to the cross-entropy's.
    """

    stage: str
    spread: float
    gradient: float

    @property
    def dead(self) -> bool:
        return not (self.spread > LEAST_SPREAD and self.gradient > LEAST_GRADIENT)

    def __str__(self) -> str:
        return f"{self.stage} (spread {self.spread:.1e}, relative gradient {self.gradient:.1e})"


def signals(
    model: nn.Module, stages: Sequence[Stage], x: Tensor, y: Tensor, operator: Operator = "sum", p: float = 2.0
) -> list[Signal]:
    """Measure each tap of `model`, in fp32 and eval mode; the network and its gradients are left as they were.

    Args:
        x: fp32 (N, 3, H, W) in [0, 1]; a few images are enough. y: int64 (N,).
    """
    parameters = [q for q in model.parameters() if q.requires_grad]
    with evaluating(model):
        with tap(model, stages) as taps:
            loss = F.cross_entropy(model(x).float(), y)
            features = [taps[s.name] for s in stages]
        reference = _norm(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
        generator = torch.Generator().manual_seed(0)
        measured = []
        for stage, feature in zip(stages, features):
            noise = torch.randn(feature.shape[0], 1, *feature.shape[2:], generator=generator).to(feature)
            teacher = feature.detach() * (1 + PERTURBATION * noise)
            if stage.positions == 1:
                measured.append(Signal(stage.name, 0.0, 0.0))
                continue
            term = distillation_loss(feature, teacher, operator, p)
            grads = (
                torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
                if term.requires_grad
                else ()
            )
            q = normalised(attention_map(feature.detach(), "sum" if operator == "raw" else operator, p))
            spread = (q.std(1) * q.shape[1] ** 0.5).mean().item()
            measured.append(Signal(stage.name, spread, _norm(grads) / max(reference, 1e-12)))
    return measured


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return sum(g.float().square().sum().item() for g in gradients if g is not None) ** 0.5
