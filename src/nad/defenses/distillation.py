"""The mechanics of attention distillation: which layers are compared, with what weight, and the training step."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attention import Form, Operator, convert_beta, distances, normalised_difference, reduced
from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.guard import signals
from nad.models.forward import evaluating
from nad.models.stages import Stage, find_stages, layer, maps, stage, tap
from nad.runtime import Run
from nad.training import Step

LEAST = 2  # live stages that probing has to find; a user may name a single one
DEEPEST, SHALLOWER = 15.625, (4.0, 8.0)  # the released 1000, 1000 and 500 on WRN maps at 32 pixels, see `base_betas`


@dataclass(frozen=True)
class Taps:
    """Pairs of stages to compare.

    Args:
        student, teacher: stages by depth, of equal number.
        distances: the mean distance d of each pair before training.
        dropped: taps found by probing that carry no signal, in words.
        kept: which of the stages that were found or named these are; the others are `dropped`.
    """

    student: tuple[Stage, ...]
    teacher: tuple[Stage, ...]
    distances: tuple[float, ...]
    dropped: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()

    def weights(self, betas: tuple[float, ...]) -> tuple[float, ...]:
        """One a pair, where `betas` are one for all, one a pair or one a stage that was found."""
        if len(betas) == len(self.kept) + len(self.dropped):
            return tuple(betas[i] for i in self.kept)
        return betas * len(self.student) if len(betas) == 1 else betas

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
        weights: where given, one a stage found, one a live one, or one for all; a stage of weight 0 is not checked.

    Raises:
        NadError: another number of weights, a named tap that is dead, fewer than two live ones found, stages that
            cannot be paired.
    """
    device = run.torch_device
    model.to(device)
    teacher.to(device).eval()
    rows = torch.arange(min(len(images), 16))
    x, y = images.pixels[rows].to(device).float() / 255, images.labels[rows].to(device)
    own = tuple(stage(model, x[:2], n) for n in names) if names else find_stages(model, x[:2])
    others = _teacher_stages(model, teacher, own, x[:2], named=bool(names))
    each = list(weights) if weights and len(weights) == len(own) else [max(weights) if weights else 1.0] * len(own)
    used = [i for i, weight in enumerate(each) if weight > 0]
    found = dict(zip(used, signals(model, [own[i] for i in used], x, y, operator, p)))
    dead = [s for s in found.values() if s.dead]
    if dead and (names or len(dead) == len(found)):
        which = "the tap" if names else "every stage that was found"
        raise NadError(
            f"{which} carries no signal: {'; '.join(printable(s) for s in dead)}; name other layers, --stages a/b/c"
        )
    if not names and len(own) - len(dead) < LEAST:
        live = ", ".join(s.name for s in own if s.name not in {d.stage for d in dead})
        raise NadError(
            f"found one live stage, {printable(live)}, and {LEAST} are the least to compare. Name the layers, or this "
            f"one alone: --stages a/b/c\nlayers with feature maps: {printable(', '.join(maps(model, x[:2])), 400)}"
        )
    keep = tuple(i for i in range(len(own)) if i not in found or not found[i].dead)
    if weights and len(weights) not in (1, len(own), len(keep)):
        raise NadError(f"beta has {len(weights)} entries for {len(own)} stages: {', '.join(s.name for s in own)}")
    own, others = tuple(own[i] for i in keep), tuple(others[i] for i in keep)
    with torch.no_grad(), tap(model, own) as s, tap(teacher, others) as t:
        with evaluating(model):
            model(x)
        teacher(x)
        apart = [
            distances(normalised_difference(s[a.name], t[b.name], operator, p)).mean().item()
            for a, b in zip(own, others)
        ]
    return Taps(own, others, tuple(apart), tuple(str(s) for s in dead), keep)


def _teacher_stages(
    model: nn.Module, teacher: nn.Module, own: tuple[Stage, ...], x: Tensor, named: bool
) -> tuple[Stage, ...]:
    """The teacher's stage beside each of the student's: at the same depth from the end, of those that probing finds.

    Layers that the user named and probing does not find are those of the same name.
    """
    if same_architecture(model, teacher):
        return own
    theirs = find_stages(teacher, x)
    probed = find_stages(model, x) if named else own
    mine = [layer(model, s.name) for s in probed]
    if all(layer(model, s.name) in mine for s in own):
        depths = [len(mine) - mine.index(layer(model, s.name)) for s in own]
        if max(depths) > len(theirs):
            raise NadError(
                f"the student has {len(mine)} stages and the teacher {len(theirs)}; name as many of the student's or "
                f"fewer, from the end: {printable(', '.join(s.name for s in probed[-len(theirs) :]))}"
            )
        return tuple(theirs[-depth] for depth in depths)
    try:
        return tuple(stage(teacher, x, s.name) for s in own)
    except NadError as error:
        raise NadError(f"the teacher is another network, and layers are compared by name there: {error}") from error


@dataclass(frozen=True)
class Lesson:
    """What a student learns beside the labels.

    Args:
        teacher: whose attention it takes on; frozen and in eval mode. taps, betas: where, and with what weight each.
        operator, p, form: of the attention terms.
        anchor: a network whose softened answers it keeps, frozen and in eval mode, and the weight of that.
    """

    teacher: nn.Module | None = None
    taps: Taps | None = None
    betas: tuple[float, ...] = ()
    operator: Operator = "sum"
    p: float = 2.0
    form: Form = "sq"
    anchor: tuple[nn.Module, float] | None = None

    @property
    def empty(self) -> bool:
        return self.teacher is None and self.anchor is None

    @contextmanager
    def step(self, student: nn.Module, run: Run) -> Iterator[Step]:
        """The training step of `student`, whose taps are held while this lasts.

        Its terms are `ce`; for each tap of beta > 0 `attention_i` (the term) and `d_i` (the mean distance), i counting
        taps from 1; and `anchor`.
        """
        for other in (self.teacher, self.anchor[0] if self.anchor else None):
            if other is not None:
                other.to(run.torch_device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        stages = (self.taps.student, self.taps.teacher) if self.taps else ((), ())
        pairs = [(i, b, s, t) for i, (b, s, t) in enumerate(zip(self.betas, *stages), 1) if b > 0]
        with ExitStack() as held:
            mine = held.enter_context(tap(student, [s for _, _, s, _ in pairs])) if pairs else {}
            theirs = held.enter_context(tap(self.teacher, [t for *_, t in pairs])) if self.teacher and pairs else {}

            def step(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
                out = net(x)
                ce = F.cross_entropy(out.float(), y)
                terms, loss = {"ce": ce}, ce
                if self.teacher is not None:
                    with run.inference():
                        self.teacher(x)
                for i, beta, s, t in pairs:
                    difference = normalised_difference(mine[s.name], theirs[t.name], self.operator, self.p)
                    term = reduced(difference, self.form)
                    loss = loss + beta * term
                    terms |= {f"attention_{i}": term, f"d_{i}": distances(difference.detach()).mean()}
                if self.anchor:
                    network, weight = self.anchor
                    with run.inference():
                        wanted = network(x)
                    terms["anchor"] = softened_divergence(out, wanted)
                    loss = loss + weight * terms["anchor"]
                return {"loss": loss, **terms}

            yield step


def softened_divergence(answers: Tensor, wanted: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 * KL(wanted || answers) of softened logits (N, classes), the mean over N.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, Section 2.
    """
    mine, theirs = ((logits.float() / temperature).log_softmax(1) for logits in (answers, wanted))
    return temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
