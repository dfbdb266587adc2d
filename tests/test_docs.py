"""The pages say what was measured."""

from pathlib import Path

import pytest

from nad.report.pages import Store, checked, regenerated

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_table_is_drawn_from_the_results(page):
    text, store = page.read_text(encoding="utf-8"), Store(ROOT / "results", ROOT / "zoo")
    assert regenerated(text, store) == text
    assert checked(text, store) == []


def test_there_are_tables():
    assert sum("<!-- end " in page.read_text() for page in PAGES) >= 4
