"""The API reference, from the docstrings: `make api` writes build/api/index.html."""

from pathlib import Path

import pdoc

import nad

MODULES = (
    *("nad", "nad.attacks", "nad.defenses", "nad.detection", "nad.attention", "nad.inversion", "nad.evaluation"),
    *("nad.data", "nad.models", "nad.training", "nad.pipeline", "nad.registry", "nad.results", "nad.runtime"),
    *("nad.bench", "nad.grids", "nad.report", "nad.paper", "nad.errors"),
)


def main() -> None:
    for name in nad.__all__:  # they are imported when first used, and pdoc looks without using
        setattr(nad, name, getattr(nad, name))
    pdoc.render.configure(docformat="google", show_source=False, footer_text="nad")
    pdoc.pdoc(*MODULES, output_directory=Path("build/api"))


if __name__ == "__main__":
    main()
