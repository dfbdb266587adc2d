"""What can be said of a network without knowing a trigger. It cannot import attacks."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nad.attention import distances, normalised_difference
from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.inversion import Ground, Inversion, Look, Triggers, Universal, anomaly, invert, reached
from nad.models.forward import evaluating
from nad.models.normalize import unwrap
from nad.models.stages import Stage, tap
from nad.runtime import Run
from nad.verdict import COMPARED, SUCCESS, Seen

SCREENING = Universal.steps * Universal.batch  # images that screening one class takes
EPOCHS = 40  # of an inversion; masks change little after
FOUND = 0.9  # of the pictures a patch is sought on: with less the search failed, and its size says nothing
SHOWN = 256
"""Pictures of one of them, fewer several times: steps and not pictures make a mask small. Of the networks of embedded
images the planted patch stands out as far with these as with 500."""
DEEPEST = 16  # classes that a trigger is inverted for at most, the most suspicious ones first
SURE = 0.8  # of the time that is left; how long an inversion takes is an estimate

REFERENCES: dict[str, dict[str, tuple[float, float, int]]] = {
    "mask": {
        "clean": (0.0442, 0.0442, 1),
        "clean, purified": (0.0423, 0.0571, 2),
        "backdoored": (0.00222, 0.0431, 6),
        "still backdoored": (0.00463, 0.0466, 6),
        "erased": (0.0493, 0.057, 6),
    },
    "anomaly": {
        "clean": (2.78, 2.78, 1),
        "clean, purified": (1.11, 3.51, 2),
        "backdoored": (1.77, 9.13, 6),
        "still backdoored": (0.911, 6.63, 6),
        "erased": (1.05, 2.52, 6),
    },
    "share": {
        "clean": (0.236, 0.236, 1),
        "clean, purified": (0.219, 0.228, 2),
        "backdoored": (0.229, 0.998, 6),
        "still backdoored": (0.15, 0.97, 6),
        "erased": (0.123, 0.332, 6),
    },
    "shift": {
        "clean, purified": (0.0386, 0.213, 2),
        "still backdoored": (0.0648, 0.118, 6),
        "erased": (0.186, 0.284, 6),
    },
    "weights": {
        "clean, purified": (0.00581, 0.126, 2),
        "still backdoored": (0.0126, 0.023, 6),
        "erased": (0.114, 0.155, 6),
    },
}
"""Of networks whose truth is known, the lowest and highest value of their most suspicious class, of the attention's
distance at the deepest stage and of the weights': `results/evidence`."""


def affordable(look: Look, classes: int, seconds: float, networks: int) -> int:
    """For how many of the classes triggers can be inverted, in each of `networks`, within `seconds`."""
    return int(max(0.0, min(seconds / _each(look, networks), DEEPEST, classes)))


def sufficient(look: Look, classes: int, networks: int, before: float = 0.0) -> int:
    """Minutes that suffice, about, to screen every class of `networks` and to compare the patches of some.

    Args:
        before: seconds of the budget that were gone before the screening.
    """
    screening = look.seconds * SCREENING * classes * networks
    return math.ceil((before + (screening + _each(look, networks) * min(COMPARED, classes)) / SURE) / 60)


def unsought(screened: int, inverted: int, classes: int) -> list[str]:
    """Of how many classes no patch was sought though they were screened, in words; nothing where there is none."""
    most = f" (it is for {inverted} at most)" if 0 < inverted == DEEPEST else ""
    left = screened - inverted
    return [f"Screened only, no patch was sought: {left:,} of {classes:,} classes{most}."] if left else []


def _each(look: Look, networks: int) -> float:
    return look.seconds * SHOWN * EPOCHS * networks


def inverted(model: nn.Module, ground: Ground, classes: Sequence[int], run: Run) -> Triggers:
    """For each of `classes` the smallest patch that leads to it.

    Returns:
        With the success on the pictures to judge by, NaN where there are none or the search found no patch that works.
    """
    model = copy.deepcopy(model).float()
    shown = ground.sought.subset(torch.arange(SHOWN) % len(ground.sought))
    found = invert(model, shown, Inversion(epochs=EPOCHS), run, classes)
    counts = reached(model, ground.judged, classes, lambda x, to: found.stamped(x, torch.full((len(x),), to)), run)
    success = torch.full_like(found.success, torch.nan)
    for label, count in zip(classes, counts):
        if count.of and found.success[label] >= FOUND:
            success[label] = count.rate
    return replace(found, success=success)


def smallest(classes: Sequence[int], *found: Triggers) -> list[int]:
    """The classes in the order of their smallest patch in any of these; a search that failed comes last."""

    def size(label: int) -> float:
        return min(math.inf if one.success[label].isnan() else one.norms[label].item() for one in found)

    return sorted(classes, key=size)


def sizes(found: Triggers, classes: Sequence[int]) -> dict[int, dict[str, float]]:
    """Of each of `classes` the mask's size as a part of the picture, the success if known, and the anomaly index.

    The index is among the classes whose patch works, positive where the mask is smaller than the median, and left out
    where those are fewer than COMPARED.
    """
    area = found.masks.shape[2] * found.masks.shape[3]
    rows = {c: {"mask": found.norms[c].item() / area} for c in classes}
    for label in classes:
        if not found.success[label].isnan():
            rows[label]["success"] = found.success[label].item()
    working = [c for c in classes if rows[c].get("success", 0.0) >= SUCCESS]
    if len(working) >= COMPARED:
        norms = found.norms[torch.tensor(working)]
        index = anomaly(norms) * (norms.quantile(0.5) - norms).sign()
        for label, far in zip(working, index.tolist()):
            rows[label]["anomaly"] = far
    return rows


def seen(look: Look, names: Sequence[str], found: Triggers | None, classes: Sequence[int]) -> list[Seen]:
    """All that was found of each class of a network, by name.

    Args:
        found: the patches of `classes`; None where none were sought.
    """
    patches = sizes(found, classes) if found else {}
    return [Seen(name, look.reached.get(label), **patches.get(label, {})) for label, name in enumerate(names)]


def attention_moved(
    before: nn.Module, after: nn.Module, stages: Sequence[Stage], images: ImageSet, run: Run
) -> list[dict[str, Any]]:
    """Of each stage, the mean distance of the normalised attention maps of both networks (0 to sqrt 2)."""
    device = run.torch_device
    networks = [copy.deepcopy(model).float().to(device) for model in (before, after)]
    total = torch.zeros(len(stages))
    for x, _ in in_order(images.to(device), device):
        maps = []
        for network in networks:
            with evaluating(network), run.inference(), tap(network, stages) as taps:
                network(x)
                maps.append([taps[stage.name].float() for stage in stages])
        for row, (one, other) in enumerate(zip(*maps)):
            total[row] += distances(normalised_difference(one, other, "sum", 2)).sum().cpu()
    return [{"stage": s.name, "attention": t} for s, t in zip(stages, (total / len(images)).tolist())]


def weights_moved(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """How far the weights went, relative to their length before: of the whole network and of each layer."""
    given = {k: v.detach().cpu().float() for k, v in unwrap(before).named_parameters()}
    pairs = {k: (given[k], v.detach().cpu().float()) for k, v in unwrap(after).named_parameters()}
    layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for key, pair in pairs.items():
        layers.setdefault(key.rpartition(".")[0] or key, []).append(pair)
    return {
        "relative": _relative(list(pairs.values())),
        "layers": [{"layer": name, "relative": _relative(of)} for name, of in layers.items()],
    }


def _relative(pairs: list[tuple[Tensor, Tensor]]) -> float:
    moved = sum((one - other).square().sum().item() for one, other in pairs)
    length = sum(one.square().sum().item() for one, _ in pairs)
    return (moved / length) ** 0.5 if length else 0.0
