"""The mechanics of attention distillation: which layers are compared, with what weight, and the training step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attention import Form, Operator, convert_beta, distances, normalised_difference, reduced
from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.guard import signals
from nad.models.forward import evaluating
from nad.models.stages import Stage, find_stages, stage, tap
from nad.runtime import Run
from nad.training import AfterEpoch, Recipe, fit

DEEPEST, SHALLOWER = 15.625, (4.0, 8.0)  # the released 1000, 1000 and 500 on WRN maps at 32 pixels, see `base_betas`


@dataclass(frozen=True)
class Taps:
    """Pairs of stages to compare.

    Args:
        student, teacher: stages by depth, of equal number.
        distances: the mean distance d of each pair before training.
        dropped: taps found by probing that carry no signal, in words.
    """

    student: tuple[Stage, ...]
    teacher: tuple[Stage, ...]
    distances: tuple[float, ...]
    dropped: tuple[str, ...] = ()

    def positions(self, operator: Operator) -> list[int]:
        """P of each pair: the entries of the smaller map."""
        return [
            min(s.positions, t.positions) * (s.channels if operator == "raw" else 1)
            for s, t in zip(self.student, self.teacher)
        ]


def base_betas(taps: Taps, form: Form, operator: Operator) -> tuple[float, ...]:
    """The weights that multipliers scale: the released 500/1000/1000, carried over to any network.

    In the squared convention, where one number means the same for every map size, they are 15.625 for the deepest
    tap, a quarter for the one above, and an eighth more for each further one; for a WRN at 32 pixels this is the
    released setting exactly.
    """
    squared = [DEEPEST]
    for i in range(1, len(taps.student)):
        squared.append(squared[-1] / SHALLOWER[min(i, len(SHALLOWER)) - 1])
    return tuple(
        convert_beta(beta, "sq", form, positions, max(distance, 1e-3))
        for beta, positions, distance in zip(reversed(squared), taps.positions(operator), taps.distances)
    )


def same_architecture(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same keys and shapes."""
    return {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


def find_taps(
    model: nn.Module,
    teacher: nn.Module,
    images: ImageSet,
    run: Run,
    operator: Operator,
    p: float,
    names: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> Taps:
    """The stages of student and teacher to compare, without those that carry no signal.

    Args:
        names: stages of the student that the user named; otherwise they are found by probing.
        weights: where given, one a stage or one for all; a tap of weight 0 is neither checked nor measured.

    Raises:
        NadError: a named tap that is dead, no live tap at all, stages that cannot be paired.
    """
    device = run.torch_device
    model.to(device)
    teacher.to(device).eval()
    rows = torch.arange(min(len(images), 16))
    x, y = images.pixels[rows].to(device).float() / 255, images.labels[rows].to(device)
    own = tuple(stage(model, x[:2], n) for n in names) if names else find_stages(model, x[:2])
    if weights and len(weights) not in (1, len(own)):
        raise NadError(f"beta has {len(weights)} entries for {len(own)} stages: {', '.join(s.name for s in own)}")
    others = _teacher_stages(model, teacher, own, x[:2])
    used = [i for i in range(len(own)) if weights is None or list(weights)[i if len(weights) > 1 else 0] > 0]
    found = dict(zip(used, signals(model, [own[i] for i in used], x, y, operator, p)))
    dead = [s for s in found.values() if s.dead]
    if dead and (names or len(dead) == len(found)):
        which = "the tap" if names else "every stage that was found"
        raise NadError(
            f"{which} carries no signal: {'; '.join(printable(s) for s in dead)}; name other layers, stages=a/b/c"
        )
    keep = [i for i in range(len(own)) if i not in found or not found[i].dead]
    own, others = tuple(own[i] for i in keep), tuple(others[i] for i in keep)
    with torch.no_grad(), tap(model, own) as s, tap(teacher, others) as t:
        with evaluating(model):
            model(x)
        teacher(x)
        apart = [
            distances(normalised_difference(s[a.name], t[b.name], operator, p)).mean().item()
            for a, b in zip(own, others)
        ]
    return Taps(own, others, tuple(apart), tuple(str(s) for s in dead))


def _teacher_stages(model: nn.Module, teacher: nn.Module, own: tuple[Stage, ...], x: Tensor) -> tuple[Stage, ...]:
    if same_architecture(model, teacher):
        return own
    found = find_stages(teacher, x)[-len(own) :]
    if len(found) < len(own):
        raise NadError(
            f"the student has {len(own)} stages and the teacher {len(found)}; name as many of the student's, stages=a/b"
        )
    return found


def distil(
    student: nn.Module,
    teacher: nn.Module,
    taps: Taps,
    betas: Sequence[float],
    images: ImageSet,
    how: Recipe,
    run: Run,
    terms_of: tuple[Operator, float, Form],
    after_epoch: AfterEpoch | None = None,
) -> list[dict[str, Any]]:
    """Train `student` in place with cross-entropy plus the attention terms; the teacher is frozen and in eval mode.

    Returns:
        The history of `fit` with `ce` and, for each tap of beta > 0, `attention_i` (the term) and `d_i` (the mean
        distance), i counting taps from 1.
    """
    operator, p, form = terms_of
    device = run.torch_device
    teacher.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    pairs = [(i, b, s, t) for i, (b, s, t) in enumerate(zip(betas, taps.student, taps.teacher), 1) if b > 0]
    with tap(student, [s for _, _, s, _ in pairs]) as mine, tap(teacher, [t for *_, t in pairs]) as theirs:

        def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            out = net(x)
            with run.inference():
                teacher(x)
            ce = F.cross_entropy(out.float(), y)
            terms, loss = {"ce": ce}, ce
            for i, beta, s, t in pairs:
                difference = normalised_difference(mine[s.name], theirs[t.name], operator, p)
                term = reduced(difference, form)
                loss = loss + beta * term
                terms |= {f"attention_{i}": term, f"d_{i}": distances(difference.detach()).mean()}
            return {"loss": loss, **terms}

        return fit(student, images, how, run, step, after_epoch, name="distilling")
