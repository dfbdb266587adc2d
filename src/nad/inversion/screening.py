"""Every class looked at cheaply: how easily one small change of all images leads to it."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nad.data.images import ImageSet
from nad.inversion.perturbations import Universal, reached, universal
from nad.results import Count
from nad.runtime import Run, silent

SOUGHT, JUDGED = 500, 500  # images that changes are sought on, and others that their success is counted on, at most
APART = 100  # images that nobody trained on, from which on success is counted on them


@dataclass(frozen=True, eq=False)
class Ground:
    """The clean images that evidence is sought and judged on: two parts that share none.

    Args:
        apart: whether no network was trained on those to judge by, as far as is known here.
    """

    sought: ImageSet
    judged: ImageSet
    apart: bool = False

    @classmethod
    def of(cls, images: ImageSet, run: Run, apart: ImageSet | None = None) -> "Ground":
        """Drawn from the run's seed, copies left out.

        Args:
            images: halves of them, where there is nothing better to judge by.
            apart: others, that nothing is trained on: judged by them where they are APART at least.
        """
        unlike = images.firsts().unique()
        images = images.subset(unlike) if len(unlike) < len(images) else images
        draws = run.generator("evidence")
        order = torch.randperm(len(images), generator=draws)
        if apart is not None:
            sought = images.subset(order[:SOUGHT]).decoded()
            drawn = apart.subset(torch.randperm(len(apart), generator=draws)[:JUDGED]).decoded()
            known, rows = set(sought.digests()), {digest: row for row, digest in enumerate(drawn.digests())}
            fresh = [row for digest, row in rows.items() if digest not in known]
            if len(fresh) >= APART:
                return cls(sought, drawn.subset(torch.tensor(fresh)), apart=True)
        half = max(1, len(order) // 2)
        return cls(images.subset(order[:half][:SOUGHT]).decoded(), images.subset(order[half:][:JUDGED]).decoded())


@dataclass(frozen=True)
class Look:
    """What one network gives away.

    Args:
        reached: of every class that was looked at, how many images of other classes one small change sends to it.
        rms: root mean square of that change at most.
        seconds: that one image of one class took, forward and backward.
    """

    reached: Mapping[int, Count]
    rms: float
    seconds: float

    @property
    def suspicious(self) -> list[int]:
        """The classes that were looked at, the one that is reached most easily first."""
        return sorted(self.reached, key=lambda label: -self.reached[label].rate)


def screened(
    model: nn.Module,
    ground: Ground,
    run: Run,
    how: Universal | None = None,
    seconds: float = float("inf"),
    classes: Sequence[int] | None = None,
) -> Look:
    """How easily each class is reached by a small change that is the same for all images.

    Args:
        model: left as it is.
        seconds: that it may take, about. Where they do not suffice, classes are looked at in an order drawn from the
            run's seed, for as long as one more fits in.
        classes: those to look at; all where nothing is said.
    """
    how, count = how or Universal(), len(ground.sought.classes)
    model = copy.deepcopy(model).float()
    began = time.perf_counter()
    if classes is None:
        classes = torch.randperm(count, generator=run.generator("screening")).tolist()
    found: dict[int, Count] = {}
    group, searching, done = how.group(ground.sought.size), 0.0, 0
    image = _probed(model, ground, how, run)
    each = image * (how.steps * how.batch + len(ground.judged) / 3)  # forward alone is a third
    while left := list(classes[done:]):
        fitting = (seconds - (time.perf_counter() - began)) / each
        block = left[: int(max(0.0, min(fitting, group)))]
        if not block:
            break
        started = time.perf_counter()
        changes = universal(model, ground.sought, block, how, _within(run, done * how.steps, len(classes) * how.steps))
        searching += time.perf_counter() - started
        found |= _led(model, ground.judged, dict(zip(block, changes.to(run.torch_device))), run)
        done += len(block)
        each = (time.perf_counter() - started) / len(block)
        image = searching / (done * how.steps * how.batch)
    return Look(found, how.rms, image)


def _led(model: nn.Module, images: ImageSet, changes: Mapping[int, Tensor], run: Run) -> dict[int, Count]:
    """How many images the change of each class leads to it; nothing of a class that all images are of."""
    hits = reached(model, images, list(changes), lambda x, label: x + changes[label], run)
    return {label: own for label, own in zip(changes, hits) if own.of}


def _within(run: Run, before: int, total: int) -> Run:
    """The same run, whose progress is that of one block among others."""
    return replace(run, progress=lambda what, done, _, note: run.progress(what, before + done, total, note))


def _probed(model: nn.Module, ground: Ground, how: Universal, run: Run) -> float:
    """Seconds that one image of one class takes, about, from a step of the search after another that warms up."""
    for _ in range(2):
        began = time.perf_counter()
        universal(model, ground.sought, [0], replace(how, steps=1), replace(run, progress=silent))
    return (time.perf_counter() - began) / how.batch
