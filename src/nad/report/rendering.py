"""Tables as Markdown, LaTeX, CSV and rows for the terminal."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from nad.grids import Planned
from nad.report.cells import EXTRA, METRICS, of_plans
from nad.report.comparing import Comparison
from nad.report.tables import MEAN, Table

UNMEASURED = "not measured yet\n"  # in place of a table without rows


def rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heads and rows as text: method, each victim, mean and worst over victims, number of seeds."""
    heads = ["method", *table.columns, MEAN, "worst", "n"]
    lines = []
    for row, entries in table.entries.items():
        mean = table.mean(row)
        shown = [str(entries[c]) if c in entries else "" for c in table.columns]
        worst = table.worst(row)
        ends = ("" if mean is None else f"{mean:.2f}", "" if math.isnan(worst) else f"{worst:.2f}", table.seeds(row))
        lines.append([row, *shown, *ends])
    return heads, lines


def markdown(table: Table) -> str:
    """A Markdown table; each method's specification stands behind its name."""
    heads, lines = rows(table)
    for line in lines:
        spec = table.specs[line[0]]
        line[0] += f" `{spec}`" if spec not in ("", line[0]) else ""
    return grid_of(heads, lines)


def grid_of(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Any rows of text as a Markdown table."""
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(line)} |" for line in lines), ""]
    )


def latex(table: Table, title: str = "") -> str:
    """A LaTeX table for booktabs, made narrower by adjustbox where the page is; its label is `tab:METRIC`."""
    heads, lines = rows(table)
    columns = "l" + "r" * (len(heads) - 1)
    words = {"&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "_": r"\_"}
    caption = "".join(words.get(c, c) for c in ": ".join(filter(None, (title, (METRICS | EXTRA)[table.metric]))))
    text = pd.DataFrame(lines, columns=heads).to_latex(
        index=False, escape=True, column_format=columns, caption=caption, label=f"tab:{table.metric}"
    )
    wide = text.replace(r"\begin{tabular}", "\\begin{adjustbox}{max width=\\textwidth}\n\\begin{tabular}")
    return wide.replace(r"\end{tabular}", "\\end{tabular}\n\\end{adjustbox}").replace("±", r"$\pm$")


def frame(tables: Sequence[Table]) -> pd.DataFrame:
    """Everything as numbers, one row for each method, victim and metric."""
    return pd.DataFrame(
        {
            "metric": table.metric,
            "method": row,
            "specification": table.specs[row],
            "victim": victim,
            "mean": entry.mean,
            "deviation": entry.deviation,
            "worst": entry.worst,
            "n": entry.n,
            "paper": entry.paper,
            "difference": entry.difference,
        }
        for table in tables
        for row, entries in table.entries.items()
        for victim, entry in entries.items()
    )


def choices(plans: Sequence[Planned], found: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of what methods chose on held-out images, beside what came of it."""
    chosen = found[found["choices"] != ""]
    lines = [
        [row["cell"], row["choices"], f"{row['asr']:.2f}", f"{row['acc']:.2f}", f"`{row['resolved']}`"]
        for row in of_plans(plans, chosen).to_dict("records")
    ]
    return ["result", "chosen", "ASR", "accuracy", "what was run"], lines


def compared(found: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of comparisons with controls; a star is p < 0.05 after Holm's correction."""
    heads = ["method", "less its control", "metric", "difference", "95 % interval", "victims", "seeds", "p (Holm)"]
    lines = [
        [
            *(one.method, one.control, one.metric, f"{one.difference:+.2f}{' *' if one.marked else ''}"),
            f"{one.low:+.2f} to {one.high:+.2f}" if one.low == one.low else "",
            *(str(one.victims), str(one.seeds), "" if one.adjusted is None else f"{one.adjusted:.3f}"),
        ]
        for one in found
    ]
    return heads, lines
