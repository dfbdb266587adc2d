"""The API reference, from the docstrings: `make api` writes build/api/index.html."""

import inspect
from pathlib import Path

import pdoc

import nad
from nad.attacks import ATTACKS
from nad.defenses import DEFENSES
from nad.detection import DETECTORS
from nad.registry import options

MODULES = (
    *("nad", "nad.attacks", "nad.defenses", "nad.detection", "nad.attention", "nad.inversion", "nad.evaluation"),
    *("nad.data", "nad.models", "nad.training", "nad.pipeline", "nad.registry", "nad.results", "nad.runtime"),
    *("nad.bench", "nad.grids", "nad.report", "nad.verdict", "nad.evidence", "nad.paper", "nad.errors"),
)


def main() -> None:
    for name in nad.__all__:  # they are imported when first used, and pdoc looks without using
        setattr(nad, name, getattr(nad, name))
    for registry in (ATTACKS, DEFENSES, DETECTORS):  # what their options mean stands in the fields, not in docstrings
        for method in map(registry.__getitem__, registry):
            shown = [f"- `{one.name}` ({one.kind}, {one.default or 'nothing'}): {one.help}" for one in options(method)]
            method.__doc__ = "\n".join([inspect.getdoc(method) or "", "", "**Options**", "", *shown])
    pdoc.render.configure(docformat="google", show_source=False, footer_text="nad")
    pdoc.pdoc(*MODULES, output_directory=Path("build/api"))


if __name__ == "__main__":
    main()
