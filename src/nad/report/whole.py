"""All there is to say of a grid's results: its tables, comparisons and plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from nad.errors import NadError, printable
from nad.grids import Layout, Planned
from nad.report import rendering
from nad.report.cells import EXTRA, METRICS, of_plans
from nad.report.comparing import Comparison, comparisons
from nad.report.plots import forest, plot
from nad.report.summary import outlines, summary
from nad.report.tables import Table, table

LEGEND = """All numbers are percent, but for seconds: mean (of seconds the median) ± standard deviation over n seeds, in
brackets what the paper has and ours less that, `worst` over victims and seeds. A difference is in points, with its 95 %
interval over victims, or over seeds where there is one victim; a star is p < 0.05 in a paired t-test over at least six
victims, after Holm's correction over the table.
"""


@dataclass(frozen=True)
class Report:
    """A grid's results in every form.

    Args:
        found: the results, as `cells` gives them. short: heads and rows of the summary.
    """

    plans: Sequence[Planned]
    how: Layout
    found: pd.DataFrame
    tables: Sequence[Table]
    compared: Sequence[Comparison]
    short: tuple[list[str], list[list[str]]]

    @classmethod
    def of(cls, plans: Sequence[Planned], how: Layout, found: pd.DataFrame) -> Self:
        found = of_plans(plans, found)
        made = (table(plans, found, metric, how) for metric in (*METRICS, *EXTRA))
        tables = [t for t in made if t.columns]
        return cls(plans, how, found, tables, comparisons(plans, found, how), summary(outlines(plans, found, how)))

    def parts(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """Title, heads and rows of the summary, of each table, and of the comparisons."""
        if self.short[1]:
            yield ("summary", *self.short)
        for one in self.tables:
            yield ((METRICS | EXTRA)[one.metric], *rendering.rows(one))
        if self.compared:
            yield ("against controls", *rendering.compared(self.compared))

    def records(self) -> list[dict[str, Any]]:
        """Every number of the tables, as plain values."""
        frame = rendering.frame(self.tables).astype(object)
        return [{str(k): v for k, v in row.items()} for row in frame.where(frame.notna(), None).to_dict("records")]

    def page(self) -> str:
        """All of it as Markdown."""
        titled = [f"## summary\n\n{rendering.grid_of(*self.short)}"] if self.short[1] else []
        titled += [f"## {(METRICS | EXTRA)[one.metric]}\n\n{rendering.markdown(one)}" for one in self.tables]
        if self.compared:
            titled.append(f"## against controls\n\n{rendering.grid_of(*rendering.compared(self.compared))}")
        if self.tables and self.tables[0].missing:
            titled.append(f"Results missing: {self.tables[0].missing}.\n")
        return "\n".join([f"# {self.how.title or 'Results'}\n", LEGEND, *titled])

    def latex(self) -> str:
        """Its tables for a paper."""
        needs = "% needs \\usepackage{booktabs,adjustbox}\n"
        return "\n".join([needs, *(rendering.latex(one, self.how.title) for one in self.tables)])

    def write(self, folder: Path) -> None:
        """report.md, tables.tex, results.csv and, where there is something to draw, compared.csv and two .svg.

        Raises:
            NadError: the folder cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report.md").write_text(self.page(), encoding="utf-8")
            (folder / "tables.tex").write_text(self.latex(), encoding="utf-8")
            rendering.frame(self.tables).to_csv(folder / "results.csv", index=False)
            if self.compared:
                pd.DataFrame(self.compared).to_csv(folder / "compared.csv", index=False)
            pictures = {"plot": plot(self.plans, self.found, self.how), "forest": forest(self.compared)}
            for name, picture in pictures.items():
                if picture:
                    (folder / f"{name}.svg").write_bytes(picture.svg())
        except OSError as error:
            raise NadError(f"cannot write to --out {printable(folder)}: {error.strerror}") from error
