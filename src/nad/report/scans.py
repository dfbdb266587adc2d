"""Scans of networks of which the truth is known: verdicts, error rates, and what other thresholds would give."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nad.report.evidence import FAILED
from nad.report.rendering import UNMEASURED, grid_of
from nad.results import Count, read_json, wilson
from nad.verdict import Calibration, Seen, Thresholds, Verdict, verdict_of

PATCHES = ("badnets", "trojan", "cl")  # attacks whose trigger is a patch
NEVER = (float("inf"), float("inf"))  # thresholds that leave a measure out
# Networks that the thresholds in use were fixed on; what is said of their errors leaves these out.
FIXED_ON = (
    *("clean-signs", "clean-cifar10*", "badnets-signs", "badnets-cifar10*", "blend-signs", "blend-cifar10*"),
    *("refool-signs", "sig-signs", "sig-clean-signs"),  # on whose patches the half of the median was fixed
    *("resnet18-cifar-badnets", "trojan-cifar10", "mobilenet-gtsrb-badnets"),  # open until both measures were one sign
)
OPEN = 0.1  # of the clean networks that each measure may leave undecided where thresholds are chosen
SHARES = [round(0.30 + 0.05 * i, 2) for i in range(14)]
INDEXES = [1.5 + 0.5 * i for i in range(12)]


@dataclass(frozen=True)
class Scan:
    """One network.

    Args:
        attack: that it was trained with, None for a clean one. asr: success of the attack; None where it is not known.
        target: the class that the backdoor leads to, where it is one.
    """

    name: str
    family: str
    attack: str | None
    asr: float | None
    seen: tuple[Seen, ...]
    target: str | None

    @classmethod
    def of(cls, name: str, data: dict[str, Any]) -> "Scan":
        """From a file of benchmarks/screening.py, or of benchmarks/strangers.py, which says the target by its name."""
        attack = data["attack"]
        if walked := data.get("scan"):
            seen = tuple(map(Seen.from_json, walked["classes"]))
            return cls(name, name.partition("-")[0], attack, data["given"]["asr"], seen, data["target"])
        own = [word for word in str(data["network"]["architecture"]).lower().split(":") if "=" not in word]
        family = re.match("[a-z]*", own[-1])[0] or own[-1]  # type: ignore[index]
        seen = tuple(map(Seen.from_json, data["classes"]))
        found = re.search(r"target=(\d+)", attack or "")
        target = seen[int(found[1])].name if found and "all_to_all" not in attack else None
        return cls(name, family, attack, data.get("asr"), seen, target)

    @property
    def backdoored(self) -> bool:
        """Whether there is a backdoor to be found: an attack may fail, and such a network is not a clean one either."""
        return self.attack is not None and (self.asr is None or self.asr >= FAILED)

    @property
    def held_out(self) -> bool:
        """Whether no threshold in use was fixed on it."""
        return not any(fnmatchcase(self.name, one) for one in FIXED_ON)

    @property
    def counted(self) -> bool:
        """Whether the truth is known of it."""
        return self.backdoored or self.attack is None

    @property
    def patch(self) -> bool:
        return str(self.attack).partition(":")[0] in PATCHES and self.target is not None

    def named(self, verdict: Verdict) -> bool:
        """Whether the class of the backdoor is among those that the verdict names."""
        return verdict.kind == "likely" and self.target in verdict.classes


def scans(*folders: Path) -> list[Scan]:
    """All that are kept in some folders."""
    return [Scan.of(path.stem, read_json(path)) for folder in folders for path in sorted(folder.glob("*.json"))]


def calibration(found: Sequence[Scan], limits: Thresholds = Thresholds()) -> Calibration:
    """Error rates under these thresholds."""
    clean = [verdict_of(scan.seen, limits).kind for scan in found if scan.attack is None]
    planted = {patch: [s for s in found if s.backdoored and s.patch is patch] for patch in (True, False)}
    named = {patch: sum(s.named(verdict_of(s.seen, limits)) for s in those) for patch, those in planted.items()}
    return Calibration(
        *(Count(clean.count(kind), len(clean)) for kind in ("likely", "undecided")),
        *(Count(named[patch], len(planted[patch])) for patch in (True, False)),
    )


def chosen(found: Sequence[Scan]) -> Thresholds:
    """The lowest thresholds of a sign under which no clean network shows one, and the lowest quiet ones.

    Each measure is taken alone; what is quiet leaves at most a tenth of the clean networks open. The cut for outliers
    is a published one and is not chosen.
    """
    clean = [scan for scan in found if scan.attack is None]

    def alone(share: tuple[float, float] = NEVER, index: tuple[float, float | None] = NEVER) -> Calibration:
        return calibration(clean, Thresholds(share=share, index=index))

    share = next((s for s in SHARES if alone(share=(s, s)).alarms.hits == 0), SHARES[-1])
    index = next((i for i in INDEXES if alone(index=(i, i)).alarms.hits == 0), INDEXES[-1])
    low = [s for s in SHARES if s <= share and alone(share=(s, share)).open.hits <= OPEN * len(clean)] or [share]
    least = [i for i in INDEXES if i <= index and alone(index=(i, index)).open.hits <= OPEN * len(clean)] or [index]
    return Thresholds(share=(low[0], share), index=(least[0], index))


def by_network(*folders: Path) -> str:
    """One row a network: the attack and its success, the verdict, and the most suspicious class by each measure."""
    lines = []
    for scan in sorted(scans(*folders), key=lambda scan: (scan.attack is None, scan.name)):
        verdict = verdict_of(scan.seen)
        share = max((s for s in scan.seen if s.reached), key=lambda s: s.reached.rate, default=None)  # type: ignore[union-attr]
        index = max(
            (s for s in scan.seen if s.works and s.anomaly is not None), key=lambda s: s.anomaly or 0.0, default=None
        )
        names = ", ".join(verdict.classes) if verdict.kind == "likely" else ""
        lines.append(
            [
                *(scan.name, scan.family, str(scan.attack).partition(":")[0] if scan.attack else "none"),
                *(
                    "" if scan.asr is None else f"{100 * scan.asr:.0f}",
                    scan.target or "",
                    f"{verdict.kind} {names}".strip(),
                ),
                f"{share.name} {100 * share.reached.rate:.0f}" if share and share.reached else "",
                f"{index.name} {index.anomaly:.1f}" if index else "",
            ]
        )
    heads = ["network", "family", "attack", "ASR, %", "target", "verdict", "easiest class, %", "highest index"]
    return grid_of(heads, lines) if lines else UNMEASURED


def by_attack(*folders: Path) -> str:
    """One row an attack, clean networks last: how many got each verdict. Backdoors that failed are left out."""
    kinds: dict[str, list[str]] = {}
    for scan in scans(*folders):
        if not scan.counted:
            continue
        verdict = verdict_of(scan.seen)
        said = "right" if scan.named(verdict) else verdict.kind
        kinds.setdefault(str(scan.attack).partition(":")[0] if scan.attack else "none", []).append(said)
    lines = [
        [attack, str(len(said)), *(str(said.count(kind)) for kind in ("right", "likely", "undecided", "nothing"))]
        for attack, said in sorted(kinds.items(), key=lambda item: (item[0] == "none", item[0]))
    ]
    heads = ["attack", "networks", "right class named", "another class named", "undecided", "nothing found"]
    return grid_of(heads, lines) if lines else UNMEASURED


def rates(*folders: Path) -> str:
    """Error rates of those held out, and of each family with the thresholds in use and what the other families give."""
    found = scans(*folders)
    apart = [scan for scan in found if scan.held_out]
    lines = [["all that set no threshold", "in use", *_rates(apart, Thresholds())]] if found else []
    for family in sorted({scan.family for scan in found}):
        own, others = ([s for s in found if (s.family == family) is same] for same in (True, False))
        lines.append([family, "in use", *_rates(own, Thresholds())])
        if any(scan.attack is None for scan in others):
            limits = chosen(others)
            (low, high), (least, index) = limits.share, limits.index
            words = f"of the others: share {low:g}/{high:g}, index {least:g}/{index:g}"
            lines.append([family, words, *_rates(own, limits)])
    heads = ["family", "thresholds", "false alarms", "clean undecided", "patch triggers named", "other attacks named"]
    return grid_of(heads, lines) if lines else UNMEASURED


def _rates(found: Sequence[Scan], limits: Thresholds) -> list[str]:
    whole = calibration(found, limits)
    return list(map(_within, (whole.alarms, whole.open, whole.patches, whole.others)))


def _within(count: Count) -> str:
    if not count.of:
        return "none"
    low, high = wilson(count)
    return f"{count.hits} of {count.of} ({100 * low:.0f} to {100 * high:.0f} %)"


def roc(*folders: Path) -> str:
    """For each threshold of each measure alone, how many networks have their most suspicious class above it."""
    found = scans(*folders)
    lines = [["share", f"{t:g}", *_above(found, {s.name: _shares(s) for s in found}, t)] for t in SHARES[::2]] + [
        ["index", f"{t:g}", *_above(found, {s.name: _indexes(s) for s in found}, t)] for t in INDEXES
    ]
    heads = ["measure", "from", "clean", "patch triggers, right class", "other attacks, right class"]
    return grid_of(heads, lines) if found else UNMEASURED


def _shares(scan: Scan) -> dict[str, float]:
    return {one.name: one.reached.rate for one in scan.seen if one.reached}


def _indexes(scan: Scan) -> dict[str, float]:
    return {one.name: one.anomaly for one in scan.seen if one.works and one.anomaly is not None}


def _above(found: Iterable[Scan], values: dict[str, dict[str, float]], limit: float) -> list[str]:
    hits: dict[str, list[bool]] = {"clean": [], "patch": [], "other": []}
    for scan in found:
        if (own := values[scan.name]) and scan.counted:
            most = max(own, key=lambda name: own[name])
            right = scan.attack is None or most == scan.target
            hits["clean" if scan.attack is None else "patch" if scan.patch else "other"].append(
                own[most] >= limit and right
            )
    return [f"{sum(kind)} of {len(kind)}" for kind in hits.values()]
