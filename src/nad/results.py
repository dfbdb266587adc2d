"""What was measured, and the JSON it is kept in. Imports no torch."""

import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

import pandas as pd

from nad.errors import NadError, printable

STALE = 7 * 24 * 3600  # seconds after which nobody comes back for what was left


@dataclass(frozen=True)
class Count:
    """Hits among trials; the rate is their quotient and nothing is rounded."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        return self.hits / self.of


def wilson(count: Count, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval."""
    z, n, p = NormalDist().inv_cdf((1 + confidence) / 2), count.of, count.rate
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return (low if count.hits else 0.0), (high if count.hits < n else 1.0)


@dataclass(frozen=True)
class Metrics:
    """What evaluation finds, as exact counts.

    Args:
        acc: clean test images answered right, all classes.
        acc_nt: the same over the non-target classes; None where there is no single target.
        asr: triggered images answered as the attacker wants; None without an attack.
        ra: recovered accuracy, the same triggered images answered with their true class.
        asr_by_class: asr of each true class, in order; None where there is a single target.
    """

    acc: Count
    acc_nt: Count | None = None
    asr: Count | None = None
    ra: Count | None = None
    asr_by_class: tuple[Count, ...] | None = None

    NAMES: ClassVar = ("acc", "acc_nt", "asr", "ra")

    def to_json(self) -> dict[str, Any]:
        """Fractions under the metric's names, and the counts they came from under `counts`."""
        found = {n: getattr(self, n) for n in self.NAMES}
        rates: dict[str, Any] = {n: None if c is None else c.rate for n, c in found.items()}
        counts: dict[str, Any] = {n: None if c is None else [c.hits, c.of] for n, c in found.items()}
        if self.asr_by_class is not None:
            rates |= {"asr_by_class": [c.rate if c.of else None for c in self.asr_by_class]}
            counts |= {"asr_by_class": [[c.hits, c.of] for c in self.asr_by_class]}
        return rates | {"counts": counts}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Metrics":
        counts = {n: Count(*c) for n, c in data["counts"].items() if n in cls.NAMES and c is not None}
        by_class = data["counts"].get("asr_by_class")
        return cls(**counts, asr_by_class=by_class and tuple(Count(*c) for c in by_class))


@dataclass(frozen=True)
class Result:
    """One finished piece of work: what was done to what, and what came of it.

    Args:
        method: the specification in its shortest form. configuration: the same with every field.
        data: name, count and fingerprint of each set that was used, by role.
        before, after: metrics; `before` is None where there was no earlier network.
        seconds: of the work itself, without evaluation.
        notes: what else a reader needs (the curve of a choice, taps that were dropped), by name.
        evidence: what was found without the trigger, before and after; empty where nobody asked.
        reactivated: metrics after somebody tried to bring the backdoor back; None where nobody asked.
    """

    method: str
    configuration: dict[str, Any]
    data: dict[str, Any]
    run: dict[str, Any]
    versions: dict[str, str]
    after: Metrics
    before: Metrics | None = None
    attack: str | None = None
    seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    reactivated: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        names = ("before", "after", "reactivated")
        metrics = {name: found.to_json() for name in names if (found := getattr(self, name))}
        evidence = {"evidence": self.evidence} if self.evidence else {}
        return {k: v for k, v in vars(self).items() if k not in (*names, "evidence")} | metrics | evidence


def write_json(path: Path, data: Any, indent: int | None = 1) -> None:
    """Write all of it or nothing: a reader never meets half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=indent, ensure_ascii=True, default=_plain)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """The content of a result file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NadError(f"{path.name}: expected a JSON file that can be read, got {error}") from error


def dumps(data: Any) -> str:
    """The one JSON object that `--json` prints."""
    return json.dumps(data, default=_plain, ensure_ascii=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set) else str(value)


FILES = frozenset(
    (
        *("result.json", "history.csv", "indices.json", "model.json", "model.safetensors", "model.pt"),
        *("trigger.safetensors", "attention.png", "triggers.png", "report.html", "train.parquet", "test.parquet"),
        *("config.json", "preprocessor_config.json"),  # beside a network of transformers
    )
)
"""What a result's folder holds, at any depth. A folder with anything else in it is never replaced."""


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the work is done, or disappears when it fails.

    Made before the work starts, so that a place that cannot be written to is known at once.

    Raises:
        NadError: no permission; `path` holds a result already (unless `overwrite`) or files that are not a result.
            Where that is so only when the work is done, it stays beside `path` under another name.
    """
    shown, place = printable(path), resolved(path)
    made: list[Path] = []
    try:
        with writing(shown):
            _holds_result(place, shown, overwrite)
            made = [p for p in place.parents if not p.exists()]
            place.parent.mkdir(parents=True, exist_ok=True)
            _sweep(place)
            temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            temporary.chmod(0o755)
            yield temporary
            try:
                with writing(shown):
                    replaces = _holds_result(place, shown, overwrite)  # which may have changed meanwhile
                    _swap(temporary, place) if replaces else os.replace(temporary, place)
            except NadError as error:
                aside = temporary.with_name(temporary.name.removeprefix("."))
                os.replace(temporary, aside)
                raise NadError(f"{error}\nWhat was made lies in {printable(aside.name)} beside it") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        for parent in made:
            with suppress(OSError):  # it is not empty: the work is done, or somebody else uses it by now
                parent.rmdir()


def called(methods: Sequence[tuple[str, str]]) -> list[str]:
    """What tables and sentences call each of several methods: by its name where no other has it, else in full.

    Args:
        methods: of each its name and its specification.
    """
    names = [name for name, _ in methods]
    return [name if names.count(name) == 1 else method for name, method in methods]


def resolved(path: Path) -> Path:
    """`path` from the root, through links and `~`."""
    return Path(os.path.realpath(os.path.expanduser(path)))


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Any failure to write there, in one line."""
    try:
        yield
    except OSError as error:
        raise NadError(f"cannot write to --out {printable(place)}: {error.strerror}; choose another folder") from error


def _holds_result(place: Path, shown: str, overwrite: bool) -> bool:
    """Whether there is a result that may be replaced; refuses everything else that is there."""
    if not place.exists():
        return False
    if not place.is_dir():
        raise NadError(f"--out {shown} is a file; expected a folder that does not exist yet")
    if place == Path.cwd() or place.is_mount():
        raise NadError(f"--out {shown} is the current folder or a mounted one; name a new folder inside it")
    held = sorted(place.iterdir())
    foreign = _foreign(place)
    if held and place / "result.json" not in held:
        foreign = foreign or held[0]
    if foreign:
        name = printable(foreign.relative_to(place))
        raise NadError(f"--out {shown} holds other files, such as {name}; choose a new folder")
    if held and not overwrite:
        raise NadError(f"--out {shown} already holds a result; choose another folder or say --overwrite")
    return bool(held)


def _foreign(folder: Path) -> Path | None:
    """A file in it that no result has."""
    return next((p for p in folder.rglob("*") if not p.is_dir() and p.name not in FILES), None)


def _sweep(place: Path) -> None:
    """Remove what runs for `place` left beside it when they were killed, and nobody has touched for a week."""
    named = re.compile(rf"\.{re.escape(place.name)}\.[a-z0-9_]{{8}}")  # as tempfile does
    for old in place.parent.iterdir():
        with suppress(OSError):  # it may go away meanwhile
            stale = time.time() - old.lstat().st_mtime > STALE
            if stale and named.fullmatch(old.name) and old.is_dir() and not old.is_symlink() and not _foreign(old):
                shutil.rmtree(old)


def _swap(new: Path, place: Path) -> None:
    """Put `new` where `place` is, which then no longer exists; if that fails, all is as it was."""
    old = new.with_name(f"{new.name}.old")
    os.replace(place, old)
    try:
        os.replace(new, place)
    except BaseException:
        os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """One row an epoch, as CSV."""
    pd.DataFrame(history).to_csv(path, index=False)
