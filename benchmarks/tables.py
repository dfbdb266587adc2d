"""Draw the tables of docs/main-job.md, attacks.md, defenses.md and demo.md from results/ and zoo/.

python benchmarks/tables.py            # rewrites what stands between the markers of the pages
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nad.bench import Erasure, networks, read
from nad.paper import published

METRICS = {"acc": "accuracy", "acc_nt": "acc. non-target", "asr": "ASR", "ra": "RA"}


def cells(folder: Path) -> pd.DataFrame:
    """One row a cell, metrics in percent."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/*.json")):
        cell = json.loads(path.read_text())
        rows.append(
            {"cell": f"{path.parent.name}/{path.stem}", "victim": path.parent.name, "method": cell["method"]}
            | {"seed": cell["run"]["seed"], "seconds": cell["seconds"]}
            | {m: 100 * cell["after"][m] for m in METRICS}
            | {f"before {m}": 100 * cell["before"][m] for m in METRICS}
            | {"resolved": cell["notes"]["resolved"]}
        )
    return pd.DataFrame(rows, columns=None if rows else ["victim", "method"])


def _spread(values: "pd.Series[float]") -> str:
    """Mean and standard deviation over seeds; of one seed, the value alone."""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def by_method(found: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds, and the worst ASR, for each victim and method."""
    lines = []
    for victim, group in found.groupby("victim"):
        first = group.iloc[0]
        lines += [
            f"**{victim}** (before: accuracy {first['before acc']:.2f}, ASR {first['before asr']:.2f}, "
            f"RA {first['before ra']:.2f})",
            "",
            "| method | accuracy | acc. non-target | ASR | worst ASR | RA | n |",
            "|---|---|---|---|---|---|---|",
        ]
        for method, seeds in group.groupby("method", sort=False):
            shown = {m: _spread(seeds[m]) for m in METRICS}
            lines.append(
                f"| `{method}` | {shown['acc']} | {shown['acc_nt']} | {shown['asr']} | {seeds['asr'].max():.2f} | "
                f"{shown['ra']} | {len(seeds)} |"
            )
        lines.append("")
    return "\n".join(lines)


def by_eraser(grid: str, found: pd.DataFrame, metric: str) -> str:
    """One metric of every method of a grid (rows) on every victim, mean and standard deviation over seeds.

    The paper's Table 1 stands in brackets where it has the number: its ASR, and its accuracy, which leaves out the
    target class.
    """
    erasures = {cell.name: cell for cell in read(grid) if isinstance(cell, Erasure)}
    found = found if found.empty else found[found["cell"].isin(erasures)]
    if found.empty:
        return "not measured yet\n"
    victims = list(dict.fromkeys(erasures[name].victim for name in erasures if name in set(found["cell"])))
    paper = {v: published("T1").get(v.partition("-")[0], {}) for v in victims}
    column = {"asr": 0, "acc_nt": 1}.get(metric)

    def theirs(victim: str, row: str | None) -> str:
        pair = paper[victim].get(row or "")
        return f" ({pair[column]:.2f})" if pair and column is not None else ""

    lines = [f"| method | {' | '.join(victims)} | mean |", f"|---|{'---|' * len(victims)}---|"]
    if f"before {metric}" in found:
        before = found.groupby("victim")[f"before {metric}"].mean()
        entries = [f"{before[v]:.2f}{theirs(v, 'before')}" for v in victims]
        lines.append(f"| before | {' | '.join(entries)} | {before[victims].mean():.2f} |")
    for name, cells_of in _by_method(erasures.values()).items():
        entries, means = [], []
        for victim in victims:
            seeds = found[found["cell"].isin([c.name for c in cells_of if c.victim == victim])][metric]
            entries.append(_spread(seeds) + theirs(victim, cells_of[0].paper) if len(seeds) else "")
            means += [seeds.mean()] if len(seeds) else []
        if means:
            mean = f"{pd.Series(means).mean():.2f}" if len(means) == len(victims) else ""
            lines.append(f"| {name} `{cells_of[0].method}` | {' | '.join(entries)} | {mean} |")
    return "\n".join(lines) + "\n"


def _by_method(erasures: Iterable[Erasure]) -> dict[str, list[Erasure]]:
    """Cells by the name that the grid gives their method, in its order."""
    groups: dict[str, list[Erasure]] = {}
    for cell in erasures:
        groups.setdefault(cell.name.removeprefix(f"{cell.victim}/").removesuffix(f"-{cell.seed}"), []).append(cell)
    return groups


def by_drop(found: pd.DataFrame) -> str:
    """What each allowed drop chose and gave, for each victim."""
    lines = ["| victim | method | accuracy | ASR | RA | chosen |", "|---|---|---|---|---|---|"]
    for row in found.to_dict("records"):
        rates = " | ".join(f"{row[m]:.2f}" for m in ("acc", "asr", "ra"))
        lines.append(f"| {row['victim']} | `{row['method']}` | {rates} | `{row['resolved']}` |")
    return "\n".join(lines) + "\n"


def by_network(folder: Path) -> str:
    """The demonstration's networks over its seeds."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*.json"))]
    lines = ["| network | accuracy | ASR | RA | each ASR | n |", "|---|---|---|---|---|---|"]
    for name in [n for n in (runs[0] if runs else {}) if n != "before"]:
        rates = pd.DataFrame([{m: 100 * run[name]["after"][m] for m in METRICS} for run in runs])
        shown = {m: _spread(rates[m]) for m in METRICS}
        each = " ".join(f"{v:.1f}" for v in rates["asr"])
        lines.append(f"| {name} | {shown['acc']} | {shown['asr']} | {shown['ra']} | {each} | {len(runs)} |")
    return "\n".join(lines) + "\n"


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2f}"


def _strength(measures: dict[str, dict[str, float]]) -> str:
    """The largest change and PSNR of test images, and of training images where those differ."""
    shown = {
        phase: f"{measures[phase]['linf']:.0f}, {measures[phase]['psnr']:.1f} dB" for phase in ("test", "training")
    }
    close = abs(measures["test"]["psnr"] - measures["training"]["psnr"]) < 1
    return shown["test"] if close else f"{shown['test']} ({shown['training']})"


def _after(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())["after"]


def by_victim(zoo: Path, measured: Path) -> str:
    """The zoo's networks in the order of its grid: what each attack gave, what it cost, and the paper's number."""
    paper = {name: f"{row['asr']:.2f}" for name, row in published("T3").items()}
    # Attacks whose other settings stand beside the paper's number too.
    searched = {str(cell.attack).partition(":")[0] for cell in networks("search")}
    lines = [
        "| network | attack | accuracy | cost | ASR | paper's ASR | floor | strength |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in networks():
        place = zoo / cell.name
        if not (place / "result.json").is_file():
            continue
        after, extra = _after(place), measured / f"{cell.name}.json"
        cost = floor = strength = ""
        if extra.is_file():
            more = json.loads(extra.read_text())
            cost = f"{100 * (_after(zoo / more['clean'])['acc'] - after['acc']):.2f}"
            floor, strength = _percent(more["floor"]["asr"]), _strength(more)
        attack = f"`{cell.attack}`" if cell.attack else "none"
        name = (cell.attack or "").partition(":")[0]
        theirs = paper.get(name if name in searched else cell.attack or "", "")
        entries = cell.name, attack, _percent(after["acc"]), cost, _percent(after["asr"]), theirs, floor, strength
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def by_setting(measured: Path) -> str:
    """The short trainings of the search: what each setting gave, and how strong it is."""
    lines = [
        "| setting | data | epochs | accuracy | ASR | without the grid | strength |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in networks("search"):
        if (measured / f"{cell.name}.json").is_file():
            found = json.loads((measured / f"{cell.name}.json").read_text())
            rates = " | ".join(_percent(found["after"][m]) for m in ("acc", "asr"))
            alone = _percent(found.get("perturbation_alone"))
            lines.append(
                f"| `{cell.attack}` | {cell.data} | {cell.recipe.epochs} | {rates} | {alone} | {_strength(found)} |"
            )
    return "\n".join(lines) + "\n"


def by_class(folder: Path) -> str:
    """Success of an all-to-all attack for each true class."""
    if not (folder / "result.json").is_file():
        return "not trained yet\n"
    rates = _after(folder)["asr_by_class"]
    numbers = " | ".join(str(c) for c in range(len(rates)))
    return f"| class | {numbers} |\n|---|{'---|' * len(rates)}\n| ASR | {' | '.join(map(_percent, rates))} |\n"


def rewrite(page: Path, tables: dict[str, str]) -> None:
    """Put each table between its markers."""
    text = page.read_text()
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, t=f"{begin}\n\n{table}\n{end}": t, text, flags=re.DOTALL)
    page.write_text(text)


def main() -> None:
    results = Path("results")
    rewrite(
        Path("docs/main-job.md"),
        {
            "methods": by_method(cells(results / "main-job-methods")),
            "warm": by_method(cells(results / "main-job-warm")),
            "drops": by_drop(cells(results / "main-job-drops")),
        },
    )
    victims = {
        "attacks": by_victim(Path("zoo"), results / "attacks"),
        "search": by_setting(results / "search"),
        "all-to-all": by_class(Path("zoo/all-to-all-cifar10")),
    }
    rewrite(Path("docs/attacks.md"), victims)
    for grid in ("defenses", "defenses-paper"):
        erased = cells(results / "erasures")
        rewrite(Path("docs/defenses.md"), {f"{grid} {m}": by_eraser(grid, erased, m) for m in (*METRICS, "seconds")})
    rewrite(Path("docs/demo.md"), {"demo": by_network(results / "demo")})


if __name__ == "__main__":
    main()
