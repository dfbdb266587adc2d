"""The report in a real browser; needs Chromium and Playwright (pip install playwright)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nad.report import dossier

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
EXAMPLES = Path(__file__).parent / "examples"
HOSTILE = ("<img src=x onerror=alert(1)>", "a\x1b[31mb & $x$", "\u202eevil", "W" * 300)
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
WIDER = """[...document.querySelectorAll('body *')].filter(
    e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide')).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of two methods, some of whose names are hostile."""
    folder = tmp_path_factory.mktemp("page")
    results = []
    for place in ("1-nad", "2-nad"):
        (folder / place).mkdir()
        shutil.copy(EXAMPLES / "history.csv", folder / place)
        Image.fromarray(np.full((300, 900, 3), 128, np.uint8)).save(folder / place / "attention.png")
        result = json.loads((EXAMPLES / "result.json").read_text()) | {"folder": place}
        for row, name in zip(result["evidence"]["classes"], HOSTILE):
            row["class"] = name
        result["evidence"]["intake"]["classes"] = HOSTILE
        results.append(result)
    (folder / "result.json").write_text(json.dumps(results))
    return dossier.write(folder).as_uri()


@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate("document.images.length") == 30
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    page.close()


def test_printing_shows_what_is_folded_on_the_screen(browser, address):
    page = browser.new_page()
    page.goto(address)
    table = page.locator("details table").first
    assert not table.is_visible()
    page.emulate_media(media="print")
    assert table.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
