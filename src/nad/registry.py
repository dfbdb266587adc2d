"""The grammar of a method, and the registries that turn it into objects.

`name` or `name:key=value,key=value`; `/` separates the entries of list-typed fields only; a nested method
stands in parentheses, `nad:teacher=(finetune:lr=0.1),lr=0.01`; a value with commas stands in double quotes.
`FILE.py:name` is a method of the user's own, which that file registers.
Types, defaults and checks come from the method's own dataclass, so an option exists in one place.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, Union, get_args, get_origin

from nad import user_code
from nad.errors import NadError, printable

M = TypeVar("M", bound="Method")
_NONE = ("none", "None")
_OWN_FILE = re.compile(r"\s*([^:=,()\"]+\.py):")


def option(default: Any, help: str, *, local: bool = False) -> Any:
    """A field of a method with its one-line help.

    `local` marks a value (a file, say) that only the user's own command line or Python may set: a
    specification read from a card or a grid that sets it is refused.
    """
    return field(default=default, metadata={"help": help, "local": local})


@dataclass(frozen=True)
class Spec:
    """A parsed specification: a name and its values, still as text."""

    name: str
    values: Mapping[str, str]


def parse(text: str) -> Spec:
    """Split `name:key=value,...` without knowing any type."""
    name, colon, rest = text.strip().partition(":")
    if not name or "=" in name:
        raise NadError(f"expected name or name:key=value,key=value, got {printable(text)!r}")
    values: dict[str, str] = {}
    for part in _split(rest, text) if colon else ():
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise NadError(f"expected key=value, got {printable(part)!r} in {printable(text)!r}")
        if key.strip() in values:
            raise NadError(f"{printable(key.strip())} is given twice in {printable(text)!r}")
        values[key.strip()] = value.strip()
    return Spec(name.strip(), values)


def _split(text: str, whole: str) -> list[str]:
    """Split at commas outside parentheses and double quotes."""
    parts, depth, quoted, current = [], 0, False, ""
    for c in text:
        quoted ^= c == '"'
        if not quoted:
            depth += (c == "(") - (c == ")")
            if c == "," and depth == 0:
                parts.append(current)
                current = ""
                continue
        if depth < 0:
            break
        current += c
    if depth or quoted:
        raise NadError(f"unbalanced {'quotes' if quoted else 'parentheses'} in {printable(whole)!r}")
    return [*parts, current]


def internal(factory: Callable[[], Any]) -> Any:
    """A field that no specification can set or show: what a method was fitted to."""
    return field(default_factory=factory, repr=False, compare=False, metadata={"internal": True})


class Method:
    """Base of everything that has a specification: a frozen, keyword-only dataclass with a registered name."""

    spec_name: ClassVar[str] = ""
    registry: ClassVar["Registry[Any]"]
    version: ClassVar[int] = 1  # raised when the method's numbers change; an own file's text counts as well

    @classmethod
    def parse(cls, text: "str | Self", *, trusted: bool = True) -> Self:
        """An instance from its specification; an instance is returned as it is."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            kind = cls.registry.kind
            raise NadError(f"expected a {kind} or its specification, name:key=value, got {printable(text)!r}")
        return cls.registry.create(text, trusted=trusted)

    def __str__(self) -> str:
        """The shortest specification that gives this object: the fields that differ from their defaults."""
        return self._written([f for f in self._fields() if getattr(self, f.name) != f.default])

    def recorded(self) -> str:
        """The shortest specification as a result keeps it: files of this machine by their name alone."""
        return str(self._portable())

    def explicit(self) -> str:
        """The specification with every option that has a value: what a card keeps, since a default may change.

        Local options are left out: no card may name a file, so it could not be read back.
        """
        own = self._portable()
        kept = [f for f in self._fields() if not f.metadata.get("local")]
        return own._written([f for f in kept if getattr(own, f.name) is not None or f.default is not None])

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the specification is all there is to it: no file, no callable."""
        with contextlib.suppress(NadError):
            return type(self).parse(self.explicit(), trusted=False) == self
        return False

    def _portable(self) -> Self:
        """This object with every local file, also of nested methods, named without its folder."""
        changes: dict[str, Any] = {}
        for f in self._fields():
            value = getattr(self, f.name)
            if isinstance(value, Method):
                changes[f.name] = value._portable()
            elif f.metadata.get("local") and isinstance(value, str):
                changes[f.name] = PurePath(value).name
        return dataclasses.replace(typing.cast(Any, self), **changes)

    @classmethod
    def _fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        return tuple(f for f in dataclasses.fields(typing.cast(Any, cls)) if not f.metadata.get("internal"))

    def _written(self, fields: Iterable[dataclasses.Field[Any]]) -> str:
        shown = ",".join(f"{f.name}={show(getattr(self, f.name))}" for f in fields)
        return f"{self.spec_name}:{shown}" if shown else self.spec_name

    def configuration(self) -> dict[str, Any]:
        """Every field with its value, nested methods resolved: what a result records and a fingerprint covers."""
        own, code = self._portable(), user_code.digest(type(self).__module__)
        return (
            {"name": self.spec_name, "version": self.version}
            | ({"code": code} if code else {})
            | {
                f.name: v.configuration() if isinstance(v := getattr(own, f.name), Method) else v
                for f in self._fields()
            }
        )


def show(value: Any) -> str:
    """A field's value as the grammar writes it."""
    match value:
        case None | ():
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case tuple() | list():
            return "/".join(show(v) for v in value)
        case Method():
            return f"({value})" if ":" in str(value) else str(value)
        case str() if not value or any(c in value for c in ',()"'):
            return f'"{value}"'
    return str(value)


class Registry(Generic[M]):
    """The methods of one kind by name. Register at the definition, create from a specification."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._methods: dict[str, type[M]] = {}

    def register(self, name: str) -> Callable[[type[M]], type[M]]:
        """A decorator that gives a class this name, once.

        Raises:
            ValueError: the name is taken.
        """

        def add(method: type[M]) -> type[M]:
            if name in self._methods:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            method.spec_name = name
            self._methods[name] = method
            return method

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._methods))

    def __getitem__(self, name: str) -> type[M]:
        if name not in self._methods:
            raise NadError(f"unknown {self.kind} {printable(name)!r}{close(name, self._methods)}")
        return self._methods[name]

    def create(self, text: str, *, trusted: bool = True) -> M:
        """The object that `text` specifies; `trusted=False` for text that came from a file.

        `FILE.py:` before a specification runs a file of the user's own that registers the method.
        """
        if own := _OWN_FILE.match(text):
            if not trusted:
                raise NadError(
                    f"{printable(own[1])}: a specification that comes from a file may name no code; for a grid, pass "
                    "it as --code FILE.py and leave it out of the name"
                )
            user_code.run_once(own[1])
            text = text[own.end() :]
        spec = parse(text)
        method = self[spec.name]
        hints = typing.get_type_hints(method)
        fields = {f.name: f for f in method._fields()}
        values = {}
        for key, value in spec.values.items():
            if key not in fields:
                raise NadError(f"{self.kind} {spec.name} has no option {printable(key)!r}{close(key, fields)}")
            if fields[key].metadata.get("local") and not trusted:
                raise NadError(f"{spec.name}: {key} is refused in a specification that comes from a file")
            values[key] = convert(value, hints[key], f"{spec.name}:{key}", trusted)
        return method(**values)


def close(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown word: the close ones, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; expected one of {', '.join(known) or '(none)'}"


def convert(text: str, kind: Any, where: str, trusted: bool = True) -> Any:
    """`text` as a value of the annotated type `kind`; `where` names the option in the error."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if text in _NONE and any(map(_lists_words, options)):
        return ()  # an empty list is a value of its own; what is left open is not written
    for one in sorted(options, key=lambda one: one is not types.NoneType):  # `none` is not a file of that name
        try:
            return _convert(text, one, where, trusted)
        except (ValueError, TypeError) as error:
            if isinstance(error, NadError):
                raise
    raise NadError(f"{where} expects {describe(kind)}, got {printable(text)!r}")


def _lists_words(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[0] is str


def _convert(text: str, kind: Any, where: str, trusted: bool) -> Any:
    if kind is types.NoneType or kind is None:
        if text in _NONE:
            return None
        raise ValueError
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if text == str(choice):
                return choice
        raise ValueError
    if get_origin(kind) is tuple:
        entry = get_args(kind)[0]
        return () if text in _NONE else tuple(_convert(part, entry, where, trusted) for part in text.split("/"))
    if isinstance(kind, type) and issubclass(kind, Method):
        inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
        return kind.parse(inner, trusted=trusted)
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower()) or _false(text)
    if kind is float and not math.isfinite(float(text)):
        raise ValueError
    return text.strip('"') if kind is str else kind(text)


def _false(text: str) -> bool:
    if text.lower() not in ("false", "0"):
        raise ValueError
    return False


def describe(kind: Any) -> str:
    """A type in words, for help and errors."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(describe(k) for k in get_args(kind) if k is not types.NoneType)
    if get_origin(kind) is Literal:
        return "|".join(str(c) for c in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list {describe(get_args(kind)[0])}/..."
    if kind is types.NoneType:
        return "none"
    if isinstance(kind, type) and issubclass(kind, Method):
        return f"a {kind.registry.kind}"
    return {int: "a whole number", float: "a number", bool: "true|false", str: "a text"}.get(kind, str(kind))


@dataclass(frozen=True)
class Option:
    """One option of a method, as the command line and the docs show it."""

    name: str
    kind: str
    default: str | None  # None where nothing is set
    help: str


def options(method: type[Method]) -> list[Option]:
    """Every option of a method in the order of its dataclass."""
    hints = typing.get_type_hints(method)
    return [
        Option(
            f.name, describe(hints[f.name]), None if f.default is None else show(f.default), f.metadata.get("help", "")
        )
        for f in method._fields()
    ]
