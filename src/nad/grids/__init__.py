"""Grids as plain data: what is to be done, and how its tables are laid out. A grid is a TOML file.

`[[cell]]` is a network to train, or one for each of its `seeds`. `[[method]]` is an eraser that is tried on every
victim of `[defaults]`, or its own, with every seed, clean fraction, `subset`, `x` and combination of what `vary`
lists, which its name and specification may show (`{x}`, or `{500x}` for 500 times x); `unflipped` names data whose
images no method may flip.
`like` takes the entries of another grid, or those that `pick` names, and its defaults where it has none itself; one
picked as a table, `{ name = "nad", seeds = [0, 1] }`, is changed by what else that says.
`[table]` says what a report compares with what.
"""

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from nad.errors import NadError, printable
from nad.registry import close

CLEAN = 0.05  # the fraction of clean images that a cell's name does not say


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One eraser on one victim with one seed.

    Args:
        label: what the grid calls the method. victim: a network of the zoo.
        method: specification. clean: fraction of the training split that the method gets.
        subset: seed that this fraction is drawn with, where it is not the same as `seed`.
        paper: where the published number stands, such as `T1/badnets/nad`.
        x, line: where the result stands on a plot: a number, and the name of the curve.
        clean_teacher: whether the teacher is the clean network that was trained as the victim was.
        core, gpu: whether it is of the first that are made, and only made where there is a GPU.
        reactivate: whether it is measured how fast the backdoor comes back.
    """

    label: str
    victim: str
    method: str
    seed: int
    clean: float = CLEAN
    subset: int | None = None
    paper: str | None = None
    x: float | None = None
    line: str | None = None
    reactivate: bool = False
    clean_teacher: bool = False
    core: bool = False
    gpu: bool = False

    @property
    def name(self) -> str:
        """Of its result; grids that plan the same share it."""
        return f"{self.victim}/{self.row}-{self.seed}"

    @property
    def row(self) -> str:
        """What a table calls it: all seeds of it are one number."""
        return f"{self.label}{self.fraction}"

    @property
    def fraction(self) -> str:
        """The fraction of clean images, where it is not the usual one."""
        return "" if self.clean == CLEAN else f"@{self.clean:g}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a grid's results are reported.

    Args:
        title: one line. before: where the paper has the numbers before any eraser, such as `T1/{attack}/before`.
        published: whether the paper's numbers stand beside; they belong to victims of its own regime.
        against: labels of methods, each with those of its controls.
        x: what the horizontal axis of the plot is, if there is one; `log` whether it is logarithmic.
    """

    title: str = ""
    before: str | None = None
    published: bool = True
    against: Mapping[str, Sequence[str]] = field(default_factory=dict)
    x: str | None = None
    log: bool = False


def names() -> list[str]:
    """Of the grids that come with the package."""
    held = (Path(file.name) for file in resources.files("nad.grids").iterdir())
    return sorted(file.stem for file in held if file.suffix == ".toml")


def content(name: str, liked_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a grid's file says, and that of the grid that it is like.

    Args:
        name: of a grid that comes with the package, or a file ending in .toml.
        liked_by: the grids that led here.

    Raises:
        NadError: an unknown name, a file that cannot be read or is no TOML, or a grid that is like itself.
    """
    text = _text(name)
    try:
        found = tomllib.loads(text)
    except ValueError as error:
        raise NadError(f"grid {printable(name)}: expected a TOML file, got {error}") from error
    known(_TABLES, found, f"grid {printable(name)}")
    for key in ("method", "cell"):
        entries = found.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise NadError(f"grid {printable(name)}: expected tables, each under a line [[{key}]]")
    if "like" not in found:
        return found
    if found["like"] in (*liked_by, name):
        raise NadError(f"grid {printable(name)}: is like {printable(found['like'])}, which is like it")
    base = content(found["like"], (*liked_by, name))
    methods = {entry.get("name", ""): entry for entry in base.get("method", ())}
    if len(methods) < len(base.get("method", ())):
        raise NadError(f"grid {printable(found['like'])}: two methods have one name; give each its own")
    picked = [one if isinstance(one, dict) else {"name": one} for one in found.get("pick", list(methods))]
    for wanted in (one.get("name", "") for one in picked):
        if wanted not in methods:
            raise NadError(
                f"grid {printable(name)}: {found['like']} has no {printable(wanted)!r}{close(wanted, methods)}"
            )
    merged = {key: base.get(key, {}) | found.get(key, {}) for key in ("defaults", "table")}
    return base | found | merged | {"method": [methods[one["name"]] | one for one in picked] + found.get("method", [])}


def where(name: str, value: str) -> str:
    """File and line of a method, victim or name in a grid, or in the one that it is like; else the grid."""
    text = _text(name)
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, said = line.partition("=")
        if equals and key.strip() in ("method", "victims", "name") and f'"{value}"' in said:
            return f"{Path(name).name.removesuffix('.toml')}.toml, line {number}"
    like = tomllib.loads(text).get("like")
    return where(like, value) if like else f"{printable(name)}"


def _text(name: str) -> str:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise NadError(f"grid {printable(name)} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise NadError(f"grid {printable(name)}: expected a TOML file, got {error}") from error
    if name not in names():
        raise NadError(f"there is no grid {printable(name)!r}{close(name, names())}")
    return (resources.files("nad.grids") / f"{name}.toml").read_text(encoding="utf-8")


def planned(name: str, seeds: int | None = None) -> list[Planned]:
    """The erasers of a grid in its order: method by method, then seeds, then victims.

    Args:
        seeds: how many each has, from 0 on, instead of the grid's own; but for what has one, such as the floor.

    Raises:
        NadError: an entry that no eraser has.
    """
    found = content(name)
    defaults = found.get("defaults", {}) if "method" in found else {}
    known(_KNOWN, defaults, f"{name}: [defaults]")
    entries = [defaults | entry for entry in found.get("method", ())]
    if seeds:
        entries = [e | {"seeds": list(range(seeds))} if len(listed(e.get("seeds"))) > 1 else e for e in entries]
    plans = [one for entry in entries for one in _each(name, entry)]
    if twice := [plan for plan, times in Counter(plan.name for plan in plans).items() if times > 1]:
        raise NadError(
            f"{name} plans {printable(twice[0])} twice; give each method, and each x and what varies, a name of its "
            "own (name = 'nad-x{x}'), and each seed and victim once"
        )
    return plans


def layout(name: str) -> Layout:
    """How a grid's results are reported.

    Raises:
        NadError: an entry that no table has, or a comparison of methods that the grid does not plan.
    """
    what = f"{name}: [table]"
    said = content(name).get("table", {})
    known({f.name for f in fields(Layout)}, said, what)
    typed(_TABLE, said, what)
    typed(dict.fromkeys(said.get("against", ()), (str,)), said.get("against", {}), f"{what} against")
    own = tomllib.loads(_text(name)).get("table", {}).get("against", {})  # a part of another grid may lack its methods
    labels = {plan.label for plan in planned(name)} if own else set()
    for label in (one for judged, controls in own.items() for one in (judged, *listed(controls))):
        if label not in labels:
            raise NadError(f"{what} against: the grid has no method {printable(label)!r}{close(label, labels)}")
    return Layout(**said | {"against": {one: listed(controls) for one, controls in said.get("against", {}).items()}})


_TABLES = {"cell", "method", "defaults", "table", "like", "pick", "unflipped"}
_NEEDED = {"name", "method", "victims", "seeds"}
_NUMBERS, _SWITCHES = ("clean", "x"), ("reactivate", "clean_teacher", "core", "gpu")
_KINDS: dict[str, tuple[type, ...]] = (
    dict.fromkeys(("name", "method", "paper", "line", "suffix", "victims"), (str,))
    | dict.fromkeys(_NUMBERS, (int, float))
    | dict.fromkeys(_SWITCHES, (bool,))
    | {"seeds": (int,), "subset": (int,), "vary": (dict,)}
)
_TABLE: dict[str, tuple[type, ...]] = (
    dict.fromkeys(("title", "before", "x"), (str,))
    | dict.fromkeys(("published", "log"), (bool,))
    | {"against": (dict,)}
)
_KNOWN = {f.name for f in fields(Planned)} - {"label", "victim", "seed"} | _NEEDED | {"suffix", "vary"}


def _each(grid: str, entry: dict[str, Any]) -> Iterator[Planned]:
    known(_KNOWN, entry, f"{grid}: [[method]]")
    if lacking := _NEEDED - set(entry):
        raise NadError(f"{grid}: [[method]] {printable(entry.get('name', ''))!r} lacks {', '.join(sorted(lacking))}")
    what = f"{grid}: [[method]] {printable(entry['name'])!r}"
    for key in ("victims", "seeds"):
        if not isinstance(entry[key], list) or not entry[key]:
            raise NadError(f"{what}: expected {key} as a list of at least one, [...], got {printable(entry[key])}")
    typed(_KINDS, entry, what)
    if min(entry["seeds"]) < 0:
        raise NadError(f"{what}: expected seeds of at least 0, got {min(entry['seeds'])}")
    plain(entry["name"], what)
    own = {key: entry[key] for key in ("line", *_SWITCHES) if key in entry}
    fractions, places, drawn = listed(entry.get("clean", CLEAN)), listed(entry.get("x")), listed(entry.get("subset"))
    if wrong := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        raise NadError(f"{what}: expected clean in (0, 1], the fraction of the training images, got {wrong[0]:g}")
    victims = [victim + entry.get("suffix", "") for victim in entry["victims"]]
    varied = entry.get("vary", {})
    typed(dict.fromkeys(varied, (int, float)), varied, f"{what}: vary")
    combined = [dict(zip(varied, values)) for values in itertools.product(*map(listed, varied.values()))]
    every = itertools.product(fractions, places, combined, drawn, entry["seeds"], victims)
    for clean, x, more, subset, seed, victim in every:
        shown = more | {key: value for key, value in (("x", x), ("subset", subset)) if value is not None}
        paper = _filled(entry.get("paper", ""), shown).replace("{attack}", attack(victim))
        yield Planned(
            label=_filled(entry["name"], shown),
            victim=victim,
            method=_filled(entry["method"], shown),
            seed=seed,
            clean=clean,
            subset=subset,
            paper=paper if paper and clean == CLEAN else None,
            x=100 * clean if x is None and len(fractions) > 1 else x,
            **own,
        )


def listed(value: Any) -> list[Any]:
    """A value that may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def _filled(text: str, shown: Mapping[str, float]) -> str:
    """`text` with the names of numbers in braces, and multiples of them such as `{500x}`, as numbers."""

    def number(match: re.Match[str]) -> str:
        return f"{float(match[1] or 1) * shown[match[2]]:g}" if match[2] in shown else match[0]

    return re.sub(r"\{([\d.]*)([a-z]+)\}", number, text)


def attack(victim: str) -> str:
    """The first part of a victim's name: what was planted."""
    return victim.partition("-cifar10")[0].partition("-gtsrb")[0]


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
}


def typed(kinds: Mapping[str, tuple[type, ...]], entry: Mapping[str, Any], what: str) -> None:
    """Refuse a value, or one in a list, that is of none of its key's `kinds`."""
    for key, wanted in kinds.items():
        for value in listed(entry[key]) if key in entry else ():
            if not isinstance(value, wanted):
                words = " or ".join(_WORDS[kind] for kind in wanted)
                raise NadError(f"{what}: expected {key} to be {words}, got {printable(value)!r}")


def plain(name: str, what: str) -> None:
    """Refuse a name that cannot be that of a file."""
    if not name or name.startswith(".") or set(name) & set("/\\") or printable(name) != name:
        raise NadError(f"{what}: expected a name that a file can have (no /, no dot first), got {printable(name)!r}")


def known(names: set[str], entry: dict[str, Any], what: str) -> None:
    """Refuse a key that means nothing."""
    for key in entry:
        if key not in names:
            raise NadError(f"{what} has no entry {printable(key)!r}{close(key, names)}")
