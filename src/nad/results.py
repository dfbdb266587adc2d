"""What was measured, and the JSON it is kept in. Imports no torch."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nad.errors import NadError


@dataclass(frozen=True)
class Count:
    """Hits among trials; the rate is their quotient and nothing is rounded."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        return self.hits / self.of


@dataclass(frozen=True)
class Metrics:
    """What evaluation finds, as exact counts.

    Args:
        acc: clean test images answered right, all classes.
        acc_nt: the same over the non-target classes; None where there is no single target.
        asr: triggered images answered as the attacker wants; None without an attack.
        ra: recovered accuracy, the same triggered images answered with their true class.
    """

    acc: Count
    acc_nt: Count | None = None
    asr: Count | None = None
    ra: Count | None = None

    NAMES: ClassVar = ("acc", "acc_nt", "asr", "ra")

    def to_json(self) -> dict[str, Any]:
        """Fractions under the metric's names, and the counts they came from under `counts`."""
        counts = {n: getattr(self, n) for n in self.NAMES}
        return {n: None if c is None else c.rate for n, c in counts.items()} | {
            "counts": {n: None if c is None else [c.hits, c.of] for n, c in counts.items()}
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Metrics":
        counts = {n: Count(*c) for n, c in data["counts"].items() if c is not None}
        return cls(counts["acc"], counts.get("acc_nt"), counts.get("asr"), counts.get("ra"))


@dataclass(frozen=True)
class Result:
    """One finished piece of work: what was done to what, and what came of it.

    Args:
        method: the specification in its shortest form. configuration: the same with every field.
        data: name, count and fingerprint of each set that was used, by role.
        before, after: metrics; `before` is None where there was no earlier network.
        seconds: of the work itself, without evaluation.
        notes: what else a reader needs (the curve of a choice, taps that were dropped), by name.
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

    def to_json(self) -> dict[str, Any]:
        before = {} if self.before is None else {"before": self.before.to_json()}
        own = {k: v for k, v in vars(self).items() if k not in ("before", "after")}
        return own | before | {"after": self.after.to_json()}


def write_json(path: Path, data: Any) -> None:
    """Write all of it or nothing: a reader never meets half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, ensure_ascii=True, default=_plain)
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
    except (OSError, ValueError) as error:
        raise NadError(f"{path.name}: expected a JSON file that can be read, got {error}") from error


def dumps(data: Any) -> str:
    """The one JSON object that `--json` prints."""
    return json.dumps(data, default=_plain, ensure_ascii=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set) else str(value)
