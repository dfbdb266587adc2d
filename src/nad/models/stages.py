"""Find the feature stages of any network by watching one forward pass, and tap them with hooks that come off."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nad.errors import NadError, printable
from nad.models.forward import evaluating
from nad.models.normalize import unwrap

_LEAST_POSITIONS = 4  # a normalised map of one position is constant, and of two or three nearly so
_MOST_EXTRA_TOKENS = 16  # class, distillation and register tokens


@dataclass(frozen=True)
class Stage:
    """A layer whose output is a feature map, and how to read that output.

    Args:
        name: module path as in `named_modules`, without our wrappers.
        channels, height, width: the map at the input size of the probe.
        layout: order of the axes after the batch axis: channels first, channels last, or tokens by channels.
        skip: leading tokens that are no positions (class and register tokens).
    """

    name: str
    channels: int
    height: int
    width: int
    layout: Literal["nchw", "nhwc", "tokens"]
    skip: int = 0

    @property
    def positions(self) -> int:
        return self.height * self.width

    def read(self, output: Tensor) -> Tensor:
        """The layer's output as (N, channels, height, width)."""
        if self.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            return output[:, self.skip :].transpose(1, 2).unflatten(2, (self.height, self.width))
        return output


def find_stages(model: nn.Module, example: Tensor, limit: int = 4) -> tuple[Stage, ...]:
    """The ends of the last `limit` stages, in order of depth, without those of fewer than four positions.

    A stage end is the output of a whole block container on the trunk, the last at its resolution. The trunk is what
    every path from image to answer runs through; a block holds two or more weight matrices or kernels, which a stem,
    a transition or a head convolution does not. A network without blocks is tapped at the last layer before each pool,
    one whose blocks share a single resolution at even parts of its depth. The small maps are dropped last, so that
    a network is tapped at the same layers whatever the size of its images.

    Args:
        example: (N, 3, H, W) in [0, 1], one or two images, of the size the network will get.

    Raises:
        NadError: no layer is left.
    """
    trunk = [call for call in _probe(model, example) if call.trunk and call.stage]
    ends = _block_ends(trunk, limit) or _layer_ends(trunk)
    stages = tuple(call.stage for call in ends[-limit:] if call.stage and call.stage.positions >= _LEAST_POSITIONS)
    if not stages:
        raise NadError(
            f"found no feature map of at least {_LEAST_POSITIONS} positions in {type(model).__name__} for images of "
            f"{example.shape[2]}x{example.shape[3]}. Use larger images, or name the layers to tap: --stages a/b/c"
        )
    return stages


def stage(model: nn.Module, example: Tensor, name: str) -> Stage:
    """The stage that the user named.

    Raises:
        NadError: no such layer, one that the forward pass does not call, or one whose output is no feature map.
    """
    module = layer(model, name)
    calls = [call for call in _probe(model, example) if call.module is module]
    if not calls:
        raise NadError(f"layer {printable(name)!r} cannot be tapped: the forward pass does not call it as a module")
    found = calls[-1].stage
    if found is None:
        raise NadError(
            f"layer {printable(name)!r} cannot be tapped: expected a feature map (N, C, H, W), (N, H, W, C) or "
            f"(N, tokens, C), got {calls[-1].shape or 'no tensor'}"
        )
    return replace(found, name=name)


def maps(model: nn.Module, example: Tensor) -> list[str]:
    """The layers that could be named instead: those whose output is a map of at least four positions, by depth."""
    found = [call.stage for call in _probe(model, example) if call.last]
    return [s.name for s in found if s and s.name and s.positions >= _LEAST_POSITIONS]


@contextmanager
def tap(model: nn.Module, stages: Iterable[Stage]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that each forward pass inside the context fills: stage name -> activation (N, C, H, W).

    Raises:
        NadError: the model has no layer of that name.
    """
    maps: dict[str, Tensor] = {}

    def keep(wanted: Stage) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            # A copy, because the next layer may change the output in place.
            maps[wanted.name] = wanted.read(output).clone()

        return hook

    handles = []
    try:
        for wanted in stages:
            handles.append(layer(model, wanted.name).register_forward_hook(keep(wanted)))
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name, with our wrappers or without; a NadError where there is none, with what is close."""
    around, inside = (dict(m.named_modules(remove_duplicate=False)) for m in (model, unwrap(model)))
    if name not in (layers := around | inside):  # a user knows the names without our wrappers
        close = get_close_matches(name, layers, n=6) or [known for known, _ in model.named_children()]
        raise NadError(f"the network has no layer {printable(name)!r}; it has {printable(', '.join(close))}")
    return layers[name]


@dataclass
class _Call:
    """One module call of the probe; calls are listed in the order in which they end."""

    module: nn.Module
    first: int  # index of the first call that ran inside this one
    index: int
    shape: tuple[int, ...]  # empty where the output is no tensor
    value: tuple[int, int] | None  # which storage the output lies in, and how often it had been written
    time: int
    resizes: bool  # a pool, or a resized map: no weights, another number of elements
    weights: int  # parameters with two or more axes
    trunk: bool = False
    last: bool = True  # False where the module is called again: a tap sees only the last call
    stage: Stage | None = None

    @property
    def leaf(self) -> bool:
        return self.first == self.index

    @property
    def resolution(self) -> tuple[int, int] | None:
        return (self.stage.height, self.stage.width) if self.stage else None


class _Dataflow(TorchDispatchMode):
    """Notes when each storage that depends on the image is born and last used."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.clock = 0
        # Weak references keep a storage's identity unique without keeping its memory.
        self.numbers: dict[StorageWeakRef, int] = {}
        self.born: list[int] = []
        self.used: list[float] = []
        self._add(StorageWeakRef(image.untyped_storage()))

    def _add(self, storage: StorageWeakRef) -> None:
        self.numbers[storage] = len(self.born)
        self.born.append(self.clock)
        self.used.append(self.clock)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.clock += 1
        inputs = [n for n in map(self.number, tree_leaves((args, kwargs))) if n is not None]
        for number in inputs:
            self.used[number] = self.clock
        for tensor in tree_leaves(result):
            if inputs and isinstance(tensor, Tensor) and self.number(tensor) is None:
                self._add(StorageWeakRef(tensor.untyped_storage()))
        return result

    def number(self, item: Any) -> int | None:
        return self.numbers.get(StorageWeakRef(item.untyped_storage())) if isinstance(item, Tensor) else None

    def is_cut(self, number: int, time: int) -> bool:
        """Whether, at that time, nothing else computed from the image was still to be used."""
        spans = enumerate(zip(self.born, self.used))
        return all(other == number or not born <= time < used for other, (born, used) in spans)


def _probe(model: nn.Module, example: Tensor) -> list[_Call]:
    """Every module call of one forward pass that leaves no trace in the model."""
    calls: list[_Call] = []
    firsts: list[int] = []
    flow = _Dataflow(example)
    weights = {m: sum(sum(n > 1 for n in p.shape) > 1 for p in m.parameters()) for m in model.modules()}

    def enter(module: nn.Module, inputs: Any) -> None:
        firsts.append(len(calls))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        first, number = firsts.pop(), flow.number(output)
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        value = None if number is None else (number, output._version)
        came = inputs[0].numel() if inputs and isinstance(inputs[0], Tensor) else None
        resizes = first == len(calls) and not weights[module] and math.prod(shape) != came
        calls.append(_Call(module, first, len(calls), shape, value, flow.clock, resizes, weights[module]))

    with _undisturbed(model, example):
        handles = [m.register_forward_pre_hook(enter) for m in weights]
        handles += [m.register_forward_hook(leave) for m in weights]
        try:
            with flow:
                answer = model(example)
        finally:
            for handle in handles:
                handle.remove()
    number = flow.number(answer)
    if number is not None:
        flow.used[number] = math.inf
    _describe(model, calls, flow, example)
    return calls


def _describe(model: nn.Module, calls: list[_Call], flow: _Dataflow, example: Tensor) -> None:
    names = {module: name for net in (model, unwrap(model)) for name, module in net.named_modules()}  # the user's last
    final = {call.module: call.index for call in calls}
    before: Stage | None = None
    for call in calls:
        call.last = final[call.module] == call.index
        call.trunk = call.value is not None and flow.is_cut(call.value[0], call.time)
        call.stage = _stage(names[call.module], call.shape, example, before)
        if call.trunk and call.stage:
            before = call.stage


@contextmanager
def _undisturbed(model: nn.Module, example: Tensor) -> Iterator[None]:
    """Evaluation mode without gradients; modes, buffers and random state are put back afterwards."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng([example.device] if example.is_cuda else []):
            yield
    finally:
        for module, name, buffer, kept in buffers:
            setattr(module, name, buffer)
            if not torch.equal(buffer, kept):
                buffer.copy_(kept)


def _stage(name: str, shape: tuple[int, ...], example: Tensor, before: Stage | None) -> Stage | None:
    """How to read an output of this shape; None where it is no map.

    Positions are told from channels by the image's aspect. Where both readings fit (32 channels of 32x32), and for the
    grid of the tokens, the trunk's map before this one decides.
    """
    batch, _, height, width = example.shape
    if shape[:1] != (batch,) or len(shape) not in (3, 4) or 0 in shape:
        return None
    if len(shape) == 3:
        length, channels = shape[1:]
        rows = max(1, math.isqrt(length * height // width))
        grids = [(before.height, before.width)] if before else []
        for h, w in [*grids, (rows, rows * width // height)]:
            if 0 <= length - h * w <= _MOST_EXTRA_TOKENS:
                return Stage(name, channels, h, w, "tokens", length - h * w)
        return None
    a, b, c = shape[1:]
    readings = [Stage(name, a, b, c, "nchw"), Stage(name, c, a, b, "nhwc")]
    if before and before.layout == "nhwc":
        readings.reverse()

    def misfit(reading: Stage) -> int:
        return abs(reading.height * width - reading.width * height)

    best = min(readings, key=misfit)
    return best if misfit(best) <= max(height, width) else None  # one row or column off, by rounding


def _block_ends(trunk: list[_Call], limit: int) -> list[_Call]:
    """The last block container of each resolution, or even parts of the depth where there is but one resolution."""
    blocks = [call for call in trunk if call.weights > 1 and call.last]
    units = [call for call in blocks if _is_unit(call, trunk, blocks)]
    if all(call.stage is None or call.stage.positions < _LEAST_POSITIONS for call in units):
        return []
    ends = _last_by_resolution(units)
    if len(ends) > 1:
        return ends
    sequence = _innermost(units, units)
    depths = {math.ceil(len(sequence) * part / limit) - 1 for part in range(1, limit + 1)}
    return [sequence[depth] for depth in sorted(depths)]


def _is_unit(block: _Call, trunk: list[_Call], blocks: list[_Call]) -> bool:
    """Whether a container belongs to one stage: it may enter a new resolution, but does nothing at the one before."""
    inside = _inside(block, trunk)
    sizes = {block.resolution} | {call.resolution for call in inside if call.leaf and call.weights}
    return (
        not any(call.resizes for call in inside[1:])
        and all(call.resolution == block.resolution for call in _inside(block, blocks))
        and len(sizes) <= 2
    )


def _inside(outer: _Call, calls: list[_Call]) -> list[_Call]:
    return [call for call in calls if outer.first <= call.index < outer.index]


def _innermost(calls: list[_Call], units: list[_Call]) -> list[_Call]:
    """The chain of blocks that these calls are made of, down to where the trunk is no chain of blocks any more."""
    outermost = [call for call in calls if not any(call in _inside(other, calls) for other in calls)]
    chain: list[_Call] = []
    for call in outermost:
        parts = _inside(call, units)
        chain += _innermost(parts, units) if parts else [call]
    return chain


def _layer_ends(trunk: list[_Call]) -> list[_Call]:
    """The last layer of each resolution that has weights: what a flat network computes before each pool."""
    layers, seen, computed = [], set(), set()
    for call in trunk:
        if call.leaf and call.weights:
            computed.add(call.resolution)
        # An idle dropout hands on the very value it got.
        if call.leaf and call.last and not call.resizes and call.resolution in computed and call.value not in seen:
            layers.append(call)
        seen.add(call.value)
    return _last_by_resolution(layers)


def _last_by_resolution(calls: list[_Call]) -> list[_Call]:
    last = {call.resolution: call for call in calls}
    return sorted(last.values(), key=lambda call: call.index)
