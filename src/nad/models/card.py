"""The JSON card beside a network's weights: what it is and how it was made."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nad.errors import NadError, printable
from nad.models.metadata import MOST_BYTES
from nad.models.normalize import Normalisation, check

_SUFFIXES = (".safetensors", ".pth.tar", ".pth", ".pt", ".tar", ".ckpt", ".bin")
_TEXT = 10_000  # characters; a longer text in a card is cut


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a network.

    Args:
        architecture: a name for `create`; from a card never one that names a file.
        classes: names of the classes, in the order of the outputs.
        size: height and width of the images it was trained on.
        normalisation: mean and standard deviation that the network expects around its weights, if any.
        output: name or index of the output that counts, if the network gives several.
        data: name, count and fingerprint of the images; never a path.
        attack: specification of the attack that was planted, if any.
        attack_seed: the seed of its random choices.
        recipe: how it was trained.
        seed: of initialisation, order and augmentation.
        versions: of this library and what it stands on.
        metrics: what was measured after training.
        sha256: of the file with the weights; filled in on saving.
        trigger_sha256: of `trigger.safetensors`, for an attack that was fitted; filled in on saving.
        extra: anything else.
    """

    architecture: str
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    normalisation: Normalisation | None = None
    output: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    attack: str | None = None
    attack_seed: int | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    trigger_sha256: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The name of the images it was trained on, for `sources`.

        Raises:
            NadError: the card does not say it.
        """
        train = self.data.get("train")
        name = train.get("name") if isinstance(train, dict) else None
        if not isinstance(name, str) or not name.split():
            raise NadError("the model card does not name the images that the network was trained on")
        return name.split()[0]  # what follows is how many, or which part

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Card":
        """A card from untrusted text: checked key by key, and without control characters.

        Raises:
            NadError: not JSON, an unknown or missing key, or a value of another kind; names the key.
        """
        try:
            values = _clean(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise NadError(f"expected a model card in JSON: {printable(error)}") from error
        if not isinstance(values, dict):
            raise NadError(f"expected a model card, a JSON object, got {type(values).__name__}")
        for key in values:
            if key not in _KINDS:
                raise NadError(f"a model card has no key {printable(key)!r}; expected {', '.join(_KINDS)}")
        for key in ("architecture", "classes"):
            if key not in values:
                raise NadError(f"the model card lacks the key {key!r}")
        checked = {}
        for key, value in values.items():
            kind, accept = _KINDS[key]
            try:
                checked[key] = accept(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise NadError(f"model card: {key} expects {kind}, got {printable(value, 60)!r}") from error
        return cls(**checked)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(path: Path) -> Card | None:
    """The card of the weights in `path`, from the `.json` file of the same stem beside them, if there is one.

    Raises:
        NadError: no card, or that of other weights.
    """
    suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), path.suffix)
    beside = path.with_name(path.name.removesuffix(suffix) + ".json")
    if not beside.is_file():
        return None
    try:
        if beside.stat().st_size > MOST_BYTES:
            raise NadError(f"it has more than {MOST_BYTES:,} bytes, which no card needs")
        content = beside.read_bytes()
        if not _claims(content):
            return None
        card = Card.from_json(content)
        found = digest(path) if card.sha256 else ""
    except OSError as error:
        raise NadError(f"cannot read {printable(path)} and its card: {printable(error.strerror or error)}") from error
    except NadError as error:
        raise NadError(f"{printable(beside)}: {error}.\nIf it is no card of these weights, move it away") from error
    if card.sha256 != found:
        raise NadError(
            f"{printable(path)} is not the file that {printable(beside.name)} describes: its SHA-256 differs.\n"
            "It was changed or damaged. Get both again, or move the card away and pass --model"
        )
    return card


def _claims(content: bytes) -> bool:
    """Whether a file beside weights is meant as a card of them: settings and names of classes lie there too."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return True
    return isinstance(values, dict) and not {"architecture", "classes", "sha256"}.isdisjoint(values)


def _clean(value: Any) -> Any:
    """Every text in a JSON value made printable."""
    if isinstance(value, str):
        return printable(value, _TEXT)
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {printable(k): _clean(v) for k, v in value.items()}
    return value


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def accept(value: Any) -> Any:
        if type(value) not in kinds:  # not isinstance: in JSON, true is no number
            raise TypeError
        return value

    return accept


def _maybe(accept: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else accept(value)


def _classes(value: Any) -> tuple[str, ...]:
    names = tuple(map(_exactly(str), _exactly(list)(value)))
    if not names:
        raise ValueError
    return names


def _size(value: Any) -> tuple[int, int]:
    height, width = map(_exactly(int), _exactly(list)(value))
    if min(height, width) < 1:
        raise ValueError
    return height, width


def _normalisation(value: Any) -> Normalisation:
    mean, std = (
        tuple(float(_exactly(int, float)(n)) for n in _exactly(list)(numbers)) for numbers in _exactly(list)(value)
    )
    return check(mean, std)


def _digest(value: Any) -> str:
    if not re.fullmatch(r"([0-9a-f]{64})?", _exactly(str)(value)):
        raise ValueError
    return value


_OBJECT = ("an object", _exactly(dict))
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "architecture": ("a text", _exactly(str)),
    "classes": ("a list of texts", _classes),
    "size": ("[height, width] or null", _maybe(_size)),
    "normalisation": ("[[mean, ...], [deviation, ...]] or null", _maybe(_normalisation)),
    "output": ("a text or null", _maybe(_exactly(str))),
    "data": _OBJECT,
    "attack": ("a text or null", _maybe(_exactly(str))),
    "attack_seed": ("a whole number or null", _maybe(_exactly(int))),
    "recipe": _OBJECT,
    "seed": ("a whole number or null", _maybe(_exactly(int))),
    "versions": _OBJECT,
    "metrics": _OBJECT,
    "sha256": ("64 hexadecimal digits", _digest),
    "trigger_sha256": ("64 hexadecimal digits", _digest),
    "extra": _OBJECT,
}
