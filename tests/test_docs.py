"""The pages say what was measured, and their examples work."""

import re
from pathlib import Path

import pytest

from nad.bench import Erasure, networks, read
from nad.grids import layout
from nad.report.pages import Store, checked, plots, regenerated

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_table_is_drawn_from_the_results(page):
    text, store = page.read_text(encoding="utf-8"), Store(ROOT / "results", ROOT / "zoo")
    assert regenerated(text, store) == text
    assert checked(text, store) == []
    for name, plot in plots(text, store).items():
        assert plot.is_drawn_in((page.parent / name).read_bytes()), f"nad report {page.name} draws {name} anew"


def test_there_are_tables():
    assert sum("<!-- end " in page.read_text() for page in PAGES) >= 4


def test_the_grids_that_are_shown_can_be_read(tmp_path):
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "grids.md").read_text(), re.DOTALL)
    erasers, trained, both = (tmp_path / f"{name}.toml" for name in ("erasers", "networks", "both"))
    for path, text in zip((erasers, trained, both), shown, strict=True):
        path.write_text(text)
    rows = {cell.name.partition("/")[2].rpartition("-")[0] for cell in read(str(erasers))}
    assert rows == {"finetune", "nad-sau@0.01", "nad-sau", "gentle-x1", "gentle-x2", "gentle-x4"}
    assert layout(str(erasers)).against == {"nad-sau": ["finetune"]}
    assert [cell.name for cell in read(str(trained))] == ["badnets-low-0", "badnets-low-1", "clean"]
    assert [cell.name for cell in networks(str(both))] == ["low-signs", "clean-signs-16"]
    made = [cell for cell in read(str(both)) if isinstance(cell, Erasure)]
    assert [(cell.name, cell.data, cell.twin) for cell in made] == [
        (name, "signs", "clean-signs-16")
        for name in ("low-signs/clean-0", "low-signs/nad-sau-0", "low-signs/nad-sau-1", "low-signs/nad-sau-2")
    ]
