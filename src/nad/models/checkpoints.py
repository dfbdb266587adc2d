"""Networks in files: loaded, with `foreign` reading the tensors, and saved. No other room reads or writes weights."""

import contextlib
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import safetensors.torch
import torch
from torch import Tensor, nn

from nad.errors import NadError, printable
from nad.models import huggingface, misfit
from nad.models.card import Card, digest, read_card
from nad.models.create import create, pixels_of, recorded
from nad.models.files import Format, located, write
from nad.models.foreign import listed, read
from nad.models.huggingface import Saved
from nad.models.metadata import Expected
from nad.models.normalize import Normalized, answer, normalisation, parse, taking, unwrap

TRIGGER = "trigger.safetensors"
_MOST_TRIGGER = 1 << 30
_PROBE = 1009  # a number of classes that no layer has as its width


@dataclass(frozen=True)
class Entry:
    """The key and type that a tensor has in the file it came from."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network read from a file, in evaluation mode.

    The network does not carry its card, so that nothing about an attack can reach a defense.
    """

    model: nn.Module
    architecture: str
    classes: int
    card: Card | None
    layout: Mapping[str, Entry]  # by the network's own keys, in the file's order
    notes: tuple[str, ...] = ()  # what was done to the keys and is done to pixels, to be told
    trigger: Mapping[str, Tensor] = field(default_factory=dict)  # what the card's attack was fitted to
    source: Mapping[str, str] = field(default_factory=dict)  # name and sha256 of the file
    size: tuple[int, int] | None = None  # of the images it was made for, if anybody says it
    names: tuple[str, ...] = ()  # of the classes, in the order of the outputs, if anybody says them
    stages: tuple[str, ...] = ()  # layers to compare, where the user names them; else they are found by probing
    computed: Mapping[str, Tensor] = field(default_factory=dict)  # of the file, which the network makes by itself
    companions: Mapping[str, bytes] = field(default_factory=dict)  # files that belong beside the weights, by name

    def round(self, model: nn.Module) -> None:
        """Round a network's weights, in place, to the types that they will have in a file like this one.

        Raises:
            NadError: a weight that is too large for its type.
        """
        for key, tensor in unwrap(model).state_dict().items():
            if key not in self.layout:  # a counter of batches, which old files do not have
                continue
            dtype = self.layout[key].dtype
            rounded = tensor.to(dtype)
            if tensor.isfinite().all() and not rounded.isfinite().all():
                raise NadError(
                    f"{printable(key)} reaches {tensor.abs().max():.3g}, more than {dtype} holds, which is its type "
                    "in the given file. Give the network in float32"
                )
            tensor.copy_(rounded)


def load(
    path: str | Path,
    model: str | None = None,
    classes: int | None = None,
    normalise: str | None = None,
    output: str | None = None,
) -> Loaded:
    """A network from weights made here or elsewhere.

    Args:
        path: `.safetensors`, or a pickle of tensors by any name; or a folder that `save` or transformers wrote. A card
            is taken from the `.json` file of the same stem beside the weights.
        model: a name for `create`; None takes the card's, or what transformers' `config.json` beside the weights says.
        classes: length of the output; None takes the card's, else reads it from the weights.
        normalise: as `normalize.parse` reads it; None takes the card's, or without a card what is said beside the
            weights or by the library of the architecture.
        output: name or index of the output that counts, where the network gives several; None takes the card's.

    Raises:
        NadError: a file that is missing, damaged, not a checkpoint or would run code; weights that do not fit
            the network by key or shape, or are not finite; a card that does not belong to them.
    """
    path = located(Path(path))
    card = read_card(path)
    saved = None if model else huggingface.beside(path, card.architecture if card else None)
    name = model or (card.architecture if card else saved.architecture if saved else None)
    tensors = read(path)
    if name is None:
        raise NadError(f"{printable(path)} does not say its architecture. Pass --model, such as --model wrn-16-1")
    count = classes or (len(card.classes) if card else saved.classes if saved else _count(tensors, name))
    if saved:
        loaded = _from_saved(path, saved, count, tensors)
    else:
        loaded = _from_name(path, name, count, tensors, trusted=model is not None)
    network, notes = loaded.model, loaded.notes
    if output := output or (card.output if card else huggingface.OUTPUT if saved else None):
        network = taking(network, output)
    said = Expected("its card", card.normalisation, card.size) if card else None
    pixels = said or (saved.expected if saved else pixels_of(name))
    around = pixels.normalisation if pixels else None
    if normalise is not None:
        around = parse(normalise)
    elif pixels:
        notes = (*notes, pixels.told())
    return replace(
        loaded,
        model=(Normalized(network, *around) if around else network).eval(),
        card=card,
        notes=notes,
        trigger=_trigger(path, card),
        source={
            "name": printable(f"{path.parent.name}/{path.name}" if card else path.name),
            "sha256": (card and card.sha256) or digest(path),
        },
        size=pixels.size if pixels else None,
        names=card.classes if card else loaded.names,
    )


def save(
    folder: Path,
    model: nn.Module,
    card: Card,
    format: Format = "safetensors",
    like: Loaded | None = None,
    trigger: Mapping[str, Tensor] | None = None,
) -> Card:
    """Write `model.safetensors` or `model.pt`, `model.json` and perhaps `trigger.safetensors` into an existing folder.

    Args:
        folder: where; files of those names are replaced.
        model: its normalisation goes to the card, its inner network to the weights.
        card: `sha256`, `normalisation` and `output` are filled in.
        format: `pt` is a plain state dict.
        like: what the network was loaded as; the file gets those keys and types, prefixes included, and the files
            that were beside it.
        trigger: what the card's attack was fitted to, if it was.

    Returns:
        The card as written.

    Raises:
        NadError: a folder that cannot be written.
    """
    if format not in get_args(Format):
        raise NadError(f"expected the format {' or '.join(get_args(Format))}, got {printable(format)!r}")
    state = unwrap(model).state_dict()
    layout = like.layout if like else {key: Entry(key, tensor.dtype) for key, tensor in state.items()}
    # copies, because safetensors refuses tensors that share memory
    tensors = {to.key: state[key].detach().to("cpu", to.dtype, copy=True).contiguous() for key, to in layout.items()}
    tensors |= like.computed if like else {}
    if format == "safetensors":
        weights = safetensors.torch.save(tensors, {"format": "pt"})
    else:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        weights = buffer.getvalue()
    card = replace(card, sha256=hashlib.sha256(weights).hexdigest(), normalisation=normalisation(model))
    card = replace(card, output=answer(model), trigger_sha256=write_trigger(folder, trigger or {}))
    for name, content in (like.companions if like else {}).items():
        write(folder / name, content)
    write(folder / f"model.{format}", weights)
    write(folder / "model.json", card.to_json().encode())
    return card


def write_trigger(folder: Path, tensors: Mapping[str, Tensor]) -> str:
    """What an attack was fitted to, into `trigger.safetensors`; its SHA-256, or nothing where there is nothing."""
    if not tensors:
        return ""
    content = safetensors.torch.save({k: t.detach().cpu().contiguous() for k, t in tensors.items()})
    write(folder / TRIGGER, content)
    return hashlib.sha256(content).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Tensors alone, for a program that knows what they are; the file's SHA-256."""
    content = safetensors.torch.save({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()})
    write(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """What `write_tensors` wrote.

    Raises:
        NadError: another file than that.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NadError(f"{printable(path)} is not the file that was written: its SHA-256 differs")
    return safetensors.torch.load(content)


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over keys, types, shapes and values of the network, whatever their order, device or layout."""
    digest = hashlib.sha256()
    for key, tensor in sorted(unwrap(model).state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_name(path: Path, name: str, count: int, tensors: Mapping[str, Tensor], trusted: bool) -> Loaded:
    """The network that `create` makes of a name."""
    if not trusted:  # a hostile card may ask for any size, so compare before taking memory
        _match(path, name, _skeleton(name, count, trusted), tensors)
    network = create(name, count, trusted=trusted).float()  # own code may say half; the layout keeps the file's types
    layout, notes = _fill(path, name, network, tensors)
    return Loaded(network, recorded(name), count, None, layout, notes)


def _from_saved(path: Path, saved: Saved, count: int, tensors: Mapping[str, Tensor]) -> Loaded:
    """The network that transformers wrote, compared with the weights before it takes memory."""
    name, skeleton = saved.architecture, saved.skeleton(tensors)
    keys, computed = saved.keys(tensors)
    renamed = {own: tensors[key] for own, key in keys.items()}
    _match(path, name, skeleton, renamed)
    network = saved.build()
    layout, notes = _fill(path, name, network, renamed)
    layout = {own: replace(entry, key=keys[own]) for own, entry in layout.items()}
    left = {key: tensors[key] for key in computed}
    return Loaded(network, name, count, None, layout, notes, names=saved.names, computed=left, companions=saved.files)


def _fill(
    path: Path, name: str, network: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """Put the file's tensors into the network; the layout and notes of `_match`."""
    layout, notes = _match(path, name, network, tensors)
    values = {}
    for own, like in network.state_dict().items():
        if own in layout:
            values[own] = tensors[layout[own].key].to(like.dtype)
            if not torch.isfinite(values[own]).all():
                raise NadError(f"{printable(path)} holds NaN or infinite weights, first in {listed([layout[own].key])}")
    network.load_state_dict(values)
    return layout, notes


def _trigger(path: Path, card: Card | None) -> dict[str, Tensor]:
    """The tensors of the card's attack, from the file beside the weights that the card gives the hash of."""
    if card is None or not card.trigger_sha256:
        return {}
    beside = path.with_name(TRIGGER)
    if not beside.is_file():
        raise NadError(f"{printable(path)}: its card needs {TRIGGER} beside it, which is missing. Get it again")
    if beside.stat().st_size > _MOST_TRIGGER:
        raise NadError(f"{printable(beside)} has more than {_MOST_TRIGGER:,} bytes, which no trigger needs")
    content = beside.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.trigger_sha256:
        raise NadError(f"{printable(beside)} is not the file its card describes: the SHA-256 differs. Get it again")
    try:
        return dict(safetensors.torch.load(content))
    except safetensors.SafetensorError as error:
        raise NadError(f"{printable(beside)} is damaged: {printable(error, 90)}. Get it again") from error


def _skeleton(name: str, classes: int, trusted: bool) -> nn.Module:
    """The network without memory for its weights, where it can be made like that."""
    with contextlib.suppress(Exception), torch.device("meta"):
        return create(name, classes, trusted=trusted)
    return create(name, classes, trusted=trusted)


def _count(tensors: Mapping[str, Tensor], name: str) -> int:
    """The number of classes of the weights: the length of the last parameter that depends on it."""
    parameters = dict(_skeleton(name, _PROBE, trusted=True).named_parameters())
    head = [key for key, value in parameters.items() if value.shape[:1] == (_PROBE,)] or list(parameters)
    prefix = _prefix(tensors, parameters)
    tensor = tensors.get(prefix + head[-1]) if head else None
    return tensor.shape[0] if tensor is not None and tensor.ndim and tensor.shape[0] else 10


def _prefix(keys: Iterable[str], own: Iterable[str]) -> str:
    """What stands before every key of the file and is not the network's own, such as a wrapper's `module.`."""
    keys, own, prefix = list(keys), set(own), ""
    while keys and not any(key[len(prefix) :] in own for key in keys):
        part, dot, _ = keys[0][len(prefix) :].partition(".")
        if not dot or not all(key.startswith(f"{prefix}{part}.") for key in keys):
            break
        prefix += f"{part}."
    return prefix


def _match(
    path: Path, name: str, network: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """The file's entry for every key of the network, or a NadError that names what does not fit."""
    own = network.state_dict()
    prefix = _prefix(tensors, own)
    notes = (f"every key has the prefix {prefix!r}, which is kept in what is saved",) if prefix else ()
    layout = {key[len(prefix) :]: Entry(key, tensor.dtype) for key, tensor in tensors.items()}
    # networks saved before PyTorch 0.4.1 have no such counters, and load_state_dict does without them
    missing = [key for key in own if key not in layout and not key.endswith("num_batches_tracked")]
    surplus = [entry.key for key, entry in layout.items() if key not in own]
    differing = []
    for key, expected in own.items():
        tensor = tensors[layout[key].key] if key in layout else expected
        if tensor.shape != expected.shape:
            differing.append(f"{key} is {list(tensor.shape)}, expected {list(expected.shape)}")
        elif tensor.is_floating_point() != expected.is_floating_point():
            differing.append(f"{key} is {tensor.dtype}, expected {expected.dtype}")
    kinds = (("missing", missing), ("not known to it", surplus), ("of another shape or type", differing))
    if found := [f"{len(keys)} {kind} ({listed(keys)})" for kind, keys in kinds if keys]:
        given = {key: tensors[entry.key] for key, entry in layout.items()}
        raise NadError(
            f"{printable(path)} does not fit {printable(name)}: of its keys, {'; '.join(found)}.\n"
            f"{misfit.advice(name, own, given)}"
        )
    return layout, notes
