"""The pages say what was measured."""

from pathlib import Path

import pytest

from nad.report.pages import Store, checked, plots, regenerated

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_table_is_drawn_from_the_results(page):
    text, store = page.read_text(encoding="utf-8"), Store(ROOT / "results", ROOT / "zoo")
    assert regenerated(text, store) == text
    assert checked(text, store) == []
    for name, plot in plots(text, store).items():
        assert plot.is_drawn_in((page.parent / name).read_bytes()), f"nad report {page.name} draws {name} anew"


def test_there_are_tables():
    assert sum("<!-- end " in page.read_text() for page in PAGES) >= 4
