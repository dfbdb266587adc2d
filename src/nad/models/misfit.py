"""Why the keys and shapes of a file are not those of a network: the likely cause, and what to do."""

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nad.errors import printable
from nad.extras import require, torchvision
from nad.models.create import create

Shapes = Mapping[str, torch.Size]

_MOST = 12  # siblings that are compared, each without memory for its weights
_CLASSES = 1009  # of a sibling: a number that no layer has as its width
_QUANTISED = re.compile(r"(^|[._])(zero_point|qweight|qzeros|_packed_params|weight_scale|SCB|quant_state)\b")
_PRUNED = re.compile(r"(weight|bias)_(orig|mask)$")
_LIBRARIES: Mapping[str, Callable[[], list[str]]] = {
    "torchvision": lambda: torchvision("models").list_models(module=torchvision("models")),
    "timm": lambda: require("timm", "timm").list_models(),
}
# names with numbers of one's own choice, and those that are usual
_NUMBERED = (
    (re.compile(r"wrn-(\d+)-(\d+)"), "wrn-{}-{}", (("10", "16", "22", "28", "34", "40"), ("1", "2", "4", "8", "10"))),
    (re.compile(r"preactresnet18(?::width=(\d+))?"), "preactresnet18:width={}", (("8", "16", "32", "64", "128"),)),
)


def advice(name: str, network: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str:
    """A sentence for the end of the error.

    Args:
        name: the architecture that does not fit.
        network: the state of that network.
        file: the tensors of the file by their keys without a common prefix.
    """
    own, given = ({key: tensor.shape for key, tensor in side.items()} for side in (network, file))
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    surplus = [key for key in given if key not in own]
    whole = any(t.is_floating_point() and k in file and not file[k].is_floating_point() for k, t in network.items())
    if whole or any(_QUANTISED.search(key) for key in surplus):
        return "Its weights are quantised, which cannot be trained: pass those from before quantisation"
    if any(_PRUNED.search(key) for key in surplus):
        return "Its weights are masked: have torch.nn.utils.prune.remove called on every layer, and save again"
    if not missing and not surplus and (counts := _other_head(own, given)):
        return f"It was trained for {counts[0]} classes, and its card or whoever loads it says {counts[1]}"
    if folded := [key for key in missing if key.endswith("running_var")]:
        convolutions = [key.removesuffix(".bias") + ".weight" for key in surplus if key.endswith(".bias")]
        if len(convolutions) == len(surplus) and sum(key in own for key in convolutions) >= len(folded):
            return (
                "Its BatchNorm is folded into the convolutions, whose biases are not known to the network: pass the "
                "weights from before that, or the network as it is with --model FILE.py:FACTORY"
            )
    if sibling := _fitting(name, given) or _of_size(name, own, given):
        return f"It fits {sibling}: pass --model {sibling}"
    if bool(missing) != bool(surplus) and (parts := _parts(missing or surplus, given if missing else own)):
        named = ", ".join(printable(part, 60) for part in parts)
        if missing and list(own)[-1] in missing and len(parts) == 1:
            return f"It has no head ({named}), so it names no classes: pass a whole network"
        if missing:
            return f"It lacks {named} as a whole: pass the network without that, with --model FILE.py:FACTORY"
        return f"It has {named} besides, a head perhaps: pass the network with that, with --model FILE.py:FACTORY"
    return "Pass the architecture it was trained as with --model"


def _other_head(own: Shapes, given: Shapes) -> tuple[int, int] | None:
    """The numbers of classes of the file and of the network, if the shapes differ in nothing else."""
    differing = [(given[key], own[key]) for key in own if key in given and given[key] != own[key]]
    if not differing or any(not a or not b or a[1:] != b[1:] for a, b in differing):
        return None
    counts = {(a[0], b[0]) for a, b in differing}
    return counts.pop() if len(counts) == 1 else None


def _parts(keys: Iterable[str], others: Shapes) -> list[str]:
    """The modules that the keys lie in, at most three, if the other side has nothing of any of them."""
    parts = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    there = {key.partition(".")[0] for key in others}
    return parts[:3] if not there.intersection(parts) else []


def _of_size(name: str, own: Shapes, given: Shapes) -> str | None:
    """The network made for pictures of another size, where a table of positions is of one."""
    tables = [key for key in own if re.search(r"pos_embed(ding)?$", key) and given.get(key, own[key]) != own[key]]
    patches = next((shape[-1] for key, shape in own.items() if key.endswith("proj.weight") and len(shape) == 4), 0)
    if not (tables and patches and len(given[tables[0]]) == 3):
        return None
    extra = own[tables[0]][1] - math.isqrt(own[tables[0]][1]) ** 2  # class tokens
    sized = f"{name.partition(':size=')[0]}:size={patches * math.isqrt(max(0, given[tables[0]][1] - extra))}"
    return sized if _distance(sized, given) == (0, 0) else None


def _fitting(name: str, given: Shapes) -> str | None:
    """The network of the same family that the file is of."""
    for pattern, form, choices in _NUMBERED:
        if match := pattern.fullmatch(name):
            return _fitting_number(form, [number or "64" for number in match.groups()], choices, given)
    library, _, wanted = name.partition(":")
    family = re.match(r"[a-z]+", wanted)
    if library not in _LIBRARIES or family is None:
        return None
    plain = re.sub(r"\d+", "#", wanted)

    def likeness(other: str) -> tuple[bool, float]:
        return re.sub(r"\d+", "#", other) == plain, difflib.SequenceMatcher(a=wanted, b=other).ratio()

    members = [m for m in _LIBRARIES[library]() if re.match(r"[a-z]+", m)[0] == family[0] and m != wanted]  # type: ignore[index]
    siblings = (f"{library}:{m}" for m in sorted(members, key=likeness, reverse=True)[:_MOST])
    return next((sibling for sibling in siblings if _distance(sibling, given) == (0, 0)), None)


def _fitting_number(form: str, numbers: list[str], choices: Sequence[Sequence[str]], given: Shapes) -> str | None:
    """The same where numbers in the name are free: one after the other, the choice that comes nearest."""
    nearest = (1, 0)
    for place, usual in enumerate(choices):
        tried = {}
        for number in usual:
            changed = form.format(*numbers[:place], number, *numbers[place + 1 :])
            tried[number] = _distance(changed, given)
        numbers[place] = min(tried, key=tried.__getitem__)
        nearest = tried[numbers[place]]
    return form.format(*numbers) if nearest == (0, 0) else None


def _distance(name: str, given: Shapes) -> tuple[int, int]:
    """How many keys, and shapes of shared keys, differ from the file's; (0, 0) for a network that it is of."""
    with contextlib.suppress(Exception), torch.device("meta"):  # not every network can be made without memory
        own = {key: tensor.shape for key, tensor in create(name, _CLASSES, trusted=False).state_dict().items()}
        keys = {key for key in own.keys() ^ given.keys() if not key.endswith("num_batches_tracked")}
        shapes = [(own[key], given[key]) for key in own.keys() & given.keys()]
        return len(keys), sum(a != b and not (a[:1] == (_CLASSES,) and a[1:] == b[1:]) for a, b in shapes)
    return 1_000_000, 0
