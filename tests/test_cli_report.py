"""`nad report` as a user runs it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nad import grids
from nad.results import write_json

if TYPE_CHECKING:
    from conftest import Nad


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed, asr in enumerate((0.02, 0.04)):
        rates = {"acc": 0.8, "acc_nt": 0.79, "asr": asr, "ra": 0.7}
        folder = tmp_path / "results" / "erasures" / "badnets-cifar10"
        folder.mkdir(parents=True, exist_ok=True)
        run = {"seed": seed, "device": "cpu"}
        result = {"method": "clp", "run": run, "seconds": 1.5, "notes": {}, "after": rates, "before": rates}
        write_json(folder / f"clp-{seed}.json", result)
    return tmp_path / "results"


def test_a_grid_is_reported(nad: "Nad", results: Path, tmp_path: Path) -> None:
    ran = nad("report", "defenses", "--results", results, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "3.00 ± 1.41" in ran.out
    assert "; nad bench defenses makes them" in ran.out
    assert "| clp | 3.00 ± 1.41 |  | 4.00 | 2 |" in (tmp_path / "out" / "report.md").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"report.md", "tables.tex", "results.csv"}


def test_a_folder_is_reported_as_json(nad: "Nad", results: Path) -> None:
    rows = nad("report", results / "erasures", "--json").json
    (asr,) = [row for row in rows if row["method"] == "clp" and row["metric"] == "asr"]
    assert asr["mean"] == pytest.approx(3)
    assert (asr["n"], asr["victim"], asr["paper"]) == (2, "badnets-cifar10", None)


def test_a_page_is_drawn_anew_and_checked(nad: "Nad", results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "3.0<!-- = defenses clp badnets-cifar10 asr -->\n<!-- defenses asr -->\n<!-- end defenses asr -->\n"
    )
    ran = nad("report", page, "--results", results, "--check")
    assert ran.code == 2
    assert "its tables are not what was measured" in ran.err
    assert nad("report", page, "--results", results).code == 0
    assert "| clp | 3.00 ± 1.41" in page.read_text()
    assert nad("report", page, "--results", results, "--check").code == 0
    page.write_text(page.read_text().replace("3.0<", "2.9<"))
    ran = nad("report", page, "--results", results, "--check")
    assert (ran.code, "2.9 is said of defenses clp badnets-cifar10 asr, which is 3.0" in ran.err) == (2, True)


def test_the_plots_of_a_page_are_drawn_beside_it(nad: "Nad", results: Path, tmp_path: Path) -> None:
    page, rates = tmp_path / "page.md", {"acc": 0.8, "acc_nt": 0.8, "asr": 0.1, "ra": 0.8}
    of_one = [p for p in grids.planned("figure8-strong") if p.victim == "sig-cifar10" and p.seed == 0]
    for plan in [p for p in of_one if p.x is not None][:3]:
        result = {"method": plan.method, "run": {"seed": 0}, "seconds": 1, "notes": {"asked": plan.method}}
        path = results / "erasures" / f"{plan.name}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, result | {"after": rates, "before": rates})
    page.write_text("<!-- figure8-strong plot -->\n<!-- end figure8-strong plot -->\n")
    assert nad("report", page, "--results", results).code == 0
    assert "(figure8-strong.svg)" in page.read_text()
    drawn = (tmp_path / "figure8-strong.svg").read_bytes()
    assert b">sig-cifar10<" in drawn
    assert nad("report", page, "--results", results, "--check").code == 0
    write_json(path, result | {"after": rates | {"asr": 0.2}, "before": rates})
    ran = nad("report", page, "--results", results, "--check")
    assert (ran.code, "figure8-strong.svg is not what was measured" in ran.err) == (2, True)
    assert (tmp_path / "figure8-strong.svg").read_bytes() == drawn
    assert nad("report", page, "--results", results).code == 0
    assert (tmp_path / "figure8-strong.svg").read_bytes() != drawn


def test_a_scan_has_no_report(nad: "Nad", tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", {"verdict": {}, "classes": []})
    ran = nad("report", tmp_path)
    assert (ran.code, "holds a scan, which has no report: result.json and" in ran.err) == (2, True)


def test_the_report_of_a_purification_is_drawn_anew(nad: "Nad", tmp_path: Path) -> None:
    for name in ("result.json", "history.csv"):
        shutil.copy(Path(__file__).parent / "report" / "examples" / name, tmp_path)
    (tmp_path / "attention.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ran = nad("report", tmp_path)
    assert (ran.code, ran.out.strip()) == (0, f"wrote {tmp_path / 'report.html'}")
    page = (tmp_path / "report.html").read_bytes()
    assert b"640 clean pictures came in" in page
    (tmp_path / "report.html").unlink()
    assert nad("report", tmp_path, "--json").json == {"report": str(tmp_path / "report.html")}
    assert (tmp_path / "report.html").read_bytes() == page
    for more in (("--check",), ("--out", tmp_path / "out")):
        ran = nad("report", tmp_path, *more)
        assert (ran.code, "whose report.html is drawn in it: no --out, no --check" in ran.err) == (2, True)
    (tmp_path / "attention.png").unlink()
    ran = nad("report", tmp_path)
    assert (ran.code, "attention.png: expected a PNG picture beside result.json" in ran.err) == (2, True)
    write_json(tmp_path / "result.json", {"method": "train"})
    ran = nad("report", tmp_path)
    assert (ran.code, "expected the result of a purification, or a list of them" in ran.err) == (2, True)


def test_a_folder_with_nothing_in_it_says_what_it_expected(nad: "Nad", tmp_path: Path) -> None:
    ran = nad("report", tmp_path)
    assert ran.code == 2
    assert "results in it (VICTIM/METHOD-SEED.json), or the result.json that nad purify writes" in " ".join(
        ran.err.split()
    )


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("defense", "there is no grid, page or folder 'defense'; did you mean defenses"),
        ("nowhere.md", "there is no page nowhere.md"),
        ("nowhere.toml", "grid nowhere.toml cannot be read: No such file or directory"),
        ("teachers", "nothing of teachers was measured yet"),
        ("zoo", "zoo trains networks and plans no erasers, so that there is no table"),
    ],
)
def test_what_cannot_be_reported(nad: "Nad", results: Path, what: str, said: str) -> None:
    ran = nad("report", what, "--results", results)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 2


def test_a_page_with_a_wrong_number_is_redrawn_and_refused(nad: "Nad", results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    source = "<!-- = defenses clp badnets-cifar10 asr -->"
    page.write_text(f"3.0{source} and **2.9**{source}\n<!-- defenses asr -->\n<!-- end defenses asr -->\n")
    ran = nad("report", page, "--results", results)
    assert (ran.code, "no number stands before defenses clp badnets-cifar10 asr" in ran.err) == (2, True), ran.err
    assert "| clp | 3.00 ± 1.41" in page.read_text(), "its tables are as measured all the same"
    page.write_text(page.read_text().replace(f" and **2.9**{source}", ""))
    assert nad("report", page, "--results", results, "--json").json == {"page": str(page), "redrawn": False}


def test_a_page_that_is_no_text(nad: "Nad", results: Path, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_bytes(b"\xff\xfe\x00")
    ran = nad("report", tmp_path / "page.md", "--results", results)
    assert (ran.code, ran.err.startswith("nad: expected a Markdown file in UTF-8, got")) == (2, True), ran.err


def test_a_result_that_nobody_can_read_is_missing(nad: "Nad", results: Path) -> None:
    (results / "erasures" / "badnets-cifar10" / "clp-1.json").write_text('{"method": "cl')
    ran = nad("report", "defenses", "--results", results, "--json")
    assert ran.code == 0, ran.err
    assert [row["n"] for row in ran.json if row["method"] == "clp" and row["metric"] == "asr"] == [1]
