"""Reports: pure functions of the result files."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nad import grids
from nad.errors import NadError
from nad.grids import Layout, Planned
from nad.paper import printed
from nad.report import pages
from nad.report.cells import cells, plans_of
from nad.report.comparing import Comparison, comparisons, holm
from nad.report.plots import forest, plot
from nad.report.rendering import choices, latex, markdown
from nad.report.summary import outlines, summary
from nad.report.tables import Entry, table
from nad.report.whole import Report
from nad.results import write_json

SIX = ("badnets", "blend", "cl", "refool", "sig", "trojan")
HOW = Layout(title="Two methods", before="T1/{attack}/before", against={"nad": ("finetune",)})


NAD_PAPER = next(plan.method for plan in grids.planned("defenses") if plan.label == "nad-paper")


def write(folder: Path, victim: str, label: str, seed: int, asr: float | None, acc: float = 0.8, **more: Any) -> None:
    after = {"acc": acc, "acc_nt": acc, "asr": asr, "ra": None if asr is None else 1 - asr}
    before = {"acc": 0.85, "acc_nt": 0.84, "asr": 1.0, "ra": 0.0}
    method = label if label == "clp" else f"{label.partition('@')[0]}:lr=0.1"
    result = {"method": method, "run": {"seed": seed, "device": "cpu"}, "before": before, "after": after}
    (folder / victim).mkdir(parents=True, exist_ok=True)
    notes = {"alone": True, "wall": 1000.0} | more.pop("notes", {})
    write_json(folder / victim / f"{label}-{seed}.json", result | {"seconds": 2.0, "notes": notes} | more)


def plans(victims: tuple[str, ...] = ("badnets-cifar10",), seeds: int = 2) -> list[Planned]:
    one = {"nad": "T1/{}/nad", "finetune": None}
    return [
        Planned(label=m, victim=v, seed=s, method=f"{m}:lr=0.1", paper=p and p.format(v.partition("-")[0]))
        for m, p in one.items()
        for s in range(seeds)
        for v in victims
    ]


def test_a_table_has_mean_deviation_and_the_published_number(tmp_path):
    for seed, asr in enumerate((0.10, 0.14)):
        write(tmp_path, "badnets-cifar10", "nad", seed, asr)
    write(tmp_path, "badnets-cifar10", "finetune", 0, 0.5)
    write(tmp_path, "badnets-cifar10", "not-planned", 0, 0.9)
    write(tmp_path, "badnets-cifar10", "finetune", 1, 0.9, notes={"asked": "finetune:lr=0.2"})
    made = table(plans(), cells(tmp_path), "asr", HOW)
    assert list(made.entries) == ["before", "nad", "finetune"]
    entry = made.entries["nad"]["badnets-cifar10"]
    assert (entry.mean, entry.n, entry.paper) == (pytest.approx(12), 2, 4.77)
    assert entry.deviation == pytest.approx(2.8284271)
    assert entry.worst == pytest.approx(14)
    assert entry.difference == pytest.approx(7.23)
    assert str(entry) == "12.00 ± 2.83 (4.77, +7.23)"
    assert str(made.entries["finetune"]["badnets-cifar10"]) == "50.00"
    assert made.entries["before"]["badnets-cifar10"].paper == 100
    assert made.missing == 1, "what was made with another specification is not what is planned"


@pytest.mark.parametrize(
    ("asr", "acc", "der"),  # before: 100 % and 85 %
    [(0.1, 0.75, 90.0), (0.1, 0.95, 95.0), (1.0, 0.85, 50.0), (0.0, 0.0, 57.5)],
)
def test_the_defense_effectiveness_rating(tmp_path, asr, acc, der):
    write(tmp_path, "badnets-cifar10", "nad", 0, asr, acc)
    assert cells(tmp_path)["der"].tolist() == [pytest.approx(der)]


def test_the_worst_rating_is_the_lowest_and_an_attack_that_grows_gains_nothing(tmp_path):
    before = {"acc": 0.85, "acc_nt": 0.85, "asr": 0.2, "ra": 0.6}
    for seed, asr in enumerate((0.1, 0.4)):
        write(tmp_path, "badnets-cifar10", "nad", seed, asr, 0.85, before=before)
    made = table(plans(), cells(tmp_path), "der", HOW)
    assert made.entries["nad"]["badnets-cifar10"].worst == made.worst("nad") == pytest.approx(50)
    write(tmp_path, "badnets-cifar10", "nad", 0, None)
    assert cells(tmp_path)["der"].isna().tolist() == [True, False]


def test_the_published_accuracy_leaves_out_the_target_class(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1)
    assert table(plans(), cells(tmp_path), "acc", HOW).entries["nad"]["badnets-cifar10"].paper is None
    assert table(plans(), cells(tmp_path), "acc_nt", HOW).entries["nad"]["badnets-cifar10"].paper == 81.17


def test_a_mean_over_victims_needs_them_all(tmp_path):
    for victim, asr in (("badnets-cifar10", 0.1), ("blend-cifar10", 0.3)):
        write(tmp_path, victim, "nad", 0, asr)
        three = table(plans(("badnets-cifar10", "blend-cifar10", "sig-cifar10"), 1), cells(tmp_path), "asr", HOW)
        assert three.mean("nad") is None, "nothing was measured on the third yet"
    write(tmp_path, "badnets-cifar10", "finetune", 0, 0.5)
    made = table(plans(("badnets-cifar10", "blend-cifar10"), 1), cells(tmp_path), "asr", HOW)
    assert made.mean("nad") == pytest.approx(20)
    assert made.mean("finetune") is None


def test_a_summary_is_what_it_costs_and_what_is_left(tmp_path):
    two = ("badnets-cifar10", "sig-cifar10")
    asked = plans(two) + [Planned(label="clean", victim=v, seed=0, method="clean:lr=0.1") for v in two]
    for victim, floor in zip(two, (0.01, 0.03)):
        write(tmp_path, victim, "clean", 0, floor, acc=0.87)
        write(tmp_path, victim, "nad", 0, floor + (0.02 if victim == two[0] else 0.10), acc=0.82)
        write(tmp_path, victim, "nad", 1, floor + (0.04 if victim == two[0] else 0.30), acc=0.84)
    write(tmp_path, two[0], "finetune", 0, 0.5)
    heads, lines = summary(outlines(asked, cells(tmp_path), HOW))
    assert heads == ["method", "accuracy change", "ASR above clean", "at worst", "victim", "n"]
    assert lines == [["nad", "-2.0", "+11.5", "+20.0", "sig-cifar10", "2"]], "a method needs every victim"
    write(tmp_path, two[1], "finetune", 0, 0.02, acc=0.85)
    assert [line[:4] for line in summary(outlines(asked, cells(tmp_path), HOW))[1]] == [
        ["nad", "-2.0", "+11.5", "+20.0"],
        ["finetune", "-2.5", "+24.0", "+49.0"],
    ]
    assert "## summary" in Report.of(asked, HOW, cells(tmp_path)).page()
    absent = f"not measured yet; `nad bench table6` makes the {len(grids.planned('table6'))} results that are missing\n"
    assert {pages.drawn(f"table6 {what}", pages.Store(tmp_path, tmp_path)) for what in ("summary", "asr")} == {absent}
    assert outlines(plans(two), cells(tmp_path), HOW) == [], "without a clean network there is no floor"


def test_a_plot_has_every_method_on_every_victim(tmp_path):
    two = ("badnets-cifar10", "sig-cifar10")
    asked = plans(two) + [Planned(label="clean", victim=v, seed=0, method="clean:lr=0.1") for v in two]
    for victim in two:
        write(tmp_path, victim, "clean", 0, 0.01)
        assert plot(asked, cells(tmp_path), HOW) is None, "there is no method yet"
        write(tmp_path, victim, "nad", 0, 0.05)
    made = plot(asked, cells(tmp_path), HOW)
    drawn = made.svg()
    for said in (*two, "nad", "mean", "attack success above the clean network"):
        assert f">{said}" in drawn.decode()
    assert made.is_drawn_in(drawn)
    write(tmp_path, two[1], "nad", 0, 0.0502)
    assert not plot(asked, cells(tmp_path), HOW).is_drawn_in(drawn), "it is of other numbers"


def test_a_plot_along_an_axis_has_a_curve_a_line_and_a_panel_a_victim(tmp_path):
    two = ("badnets-cifar10", "sig-cifar10")
    asked = [replace(p, x=float(p.seed), line=f"by {p.label}") for p in plans(two)]
    how = replace(HOW, x="a setting")
    for victim in two:
        write(tmp_path, victim, "nad", 0, 0.5)
    assert plot(asked, cells(tmp_path), how) is None, "one place is no curve"
    write(tmp_path, two[0], "nad", 1, 0.1)
    drawn = plot(asked, cells(tmp_path), how).svg()
    for said in (*two, "by nad", "a setting", "ASR (%)", "accuracy (%)"):
        assert f">{said}<" in drawn.decode()
    assert ">by finetune<" not in drawn.decode(), "it was not measured"
    write(tmp_path, two[0], "nad", 1, 0.2)
    assert not plot(asked, cells(tmp_path), how).is_drawn_in(drawn)


def test_a_forest_has_a_line_a_pair_and_marks_what_is_significant(tmp_path):
    apart = Comparison("nad", "finetune", "asr", -20.0, -25.0, -15.0, victims=6, seeds=3, p=0.001, adjusted=0.01)
    close = replace(apart, metric="acc", difference=-0.1, low=-0.4, high=0.2, adjusted=0.9)
    made = forest([apart, close])
    drawn = made.svg().decode()
    for said in (
        "nad less finetune",
        "p &lt; 0.05 (Holm)",
        "not significant",
        "ASR, difference",
        "accuracy, difference",
    ):
        assert f">{said}" in drawn
    assert made.is_drawn_in(drawn.encode())
    assert not forest([replace(apart, adjusted=0.06), close]).is_drawn_in(drawn.encode()), "a mark is drawn"
    assert not forest([replace(apart, low=-26.0), close]).is_drawn_in(drawn.encode())
    assert forest([replace(apart, low=math.nan)]) is None, "of one seed of one victim there is no interval"
    absent = pages.drawn("table6 forest", pages.Store(tmp_path, tmp_path))
    assert absent.startswith("not measured yet; `nad bench table6` makes")


def test_a_page_lists_what_its_grids_lack(tmp_path):
    one, *rest = grids.planned("table6")
    erasures = tmp_path / "erasures"
    write(erasures, one.victim, one.row, one.seed, 0.1, notes={"asked": one.method})
    drawn = pages.drawn("missing table6 victims", pages.Store(tmp_path, tmp_path)).splitlines()
    assert [line.split(" | ")[1:] for line in drawn[2:]] == [
        [str(len(rest)), str(len(rest) + 1), "`nad bench table6` |"],
        [str(n := len({plan.name for plan in grids.planned("victims")})), str(n), "`nad bench victims` |"],
    ]
    for plan in rest:
        write(erasures, plan.victim, plan.row, plan.seed, 0.1, notes={"asked": plan.method})
    assert pages.drawn("missing table6", pages.Store(tmp_path, tmp_path)) == "nothing\n"


def test_a_result_without_what_was_to_be_measured_again_is_missing_there(tmp_path):
    asked = [replace(plan, reactivate=plan.label == "nad") for plan in plans(seeds=2)]
    for plan in asked:
        write(tmp_path, plan.victim, plan.label, plan.seed, 0.1, **({"reactivated": {"asr": 0.7}} if plan.seed else {}))
    found = cells(tmp_path)
    assert [table(asked, found, metric, HOW).missing for metric in ("asr", "reactivated")] == [0, 1]


def test_a_victim_without_an_attack_has_no_success_rate(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, None)
    assert table(plans(), cells(tmp_path), "asr", HOW).columns == ()
    write(tmp_path, "badnets-cifar10", "finetune", 0, None)
    assert comparisons(plans(), cells(tmp_path), HOW, ["asr"]) == []
    with pytest.raises(NadError, match="there is no metric 'asrr'; did you mean asr"):
        table(plans(), cells(tmp_path), "asrr", HOW)


def test_seconds_are_the_median_because_one_run_may_have_shared_the_machine(tmp_path):
    for seed, seconds in enumerate((10.0, 12.0, 500.0)):
        write(tmp_path, "badnets-cifar10", "nad", seed, 0.1, seconds=seconds)
    write(tmp_path, "badnets-cifar10", "nad", 3, 0.1, seconds=1.0, run={"seed": 3, "device": "cuda"})
    for seed, (alone, seconds) in enumerate(((True, 12.0), (False, 1.0), (False, 1.0)), 4):
        write(tmp_path, "badnets-cifar10", "nad", seed, 0.1, seconds=seconds, notes={"alone": alone, "wall": seconds})
    entry = table(plans(seeds=7), cells(tmp_path), "seconds", HOW).entries["nad"]["badnets-cifar10"]
    assert (str(entry), entry.n) == ("12.00", 4)
    assert math.isnan(entry.worst), "a slow run says nothing of a method"


def test_published_numbers_stand_beside_their_own_regime_alone(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1)
    made = table(plans(), cells(tmp_path), "asr", replace(HOW, published=False))
    assert [entry.paper for row in made.entries.values() for entry in row.values()] == [None, None]


def test_what_was_chosen_stands_beside_what_came_of_it(tmp_path):
    curve = [{"setting": 1.0, "drop": 0.01}, {"setting": 2.0, "drop": 0.034}]
    notes = {"beta": {"chosen": 2.0, "curve": curve}, "teacher": {"lr": {"chosen": 1.0, "curve": curve}}}
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1, notes=notes | {"resolved": "nad:x"})
    write(tmp_path, "badnets-cifar10", "finetune", 0, 0.1)
    _, (line,) = choices(plans(), cells(tmp_path))
    assert line[1] == "teacher: lr 1 (held-out drop 1.0); beta 2 (held-out drop 3.4)"
    assert line[0] == "badnets-cifar10/nad-0"
    assert line[2:] == ["10.00", "80.00", "`nad:x`"]


def test_files_that_are_no_result_of_an_eraser_are_passed_over(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1)
    (tmp_path / "attacks").mkdir()
    write_json(tmp_path / "attacks" / "a.json", {"networks": []})
    write_json(tmp_path / "attacks" / "b.json", [])
    assert list(cells(tmp_path)["cell"]) == ["badnets-cifar10/nad-0"]


def test_the_test_is_paired_over_victims_and_needs_six(tmp_path):
    """Differences -1 to -6: mean -3.5, t = -3.5 / sqrt(3.5 / 6) = -4.5826 with 5 degrees of freedom, p = 0.0059."""
    victims = tuple(f"{v}-cifar10" for v in SIX)
    for n, victim in enumerate(victims, 1):
        for seed in (0, 1):
            write(tmp_path, victim, "finetune", seed, 0.5 + 0.1 * seed)
            write(tmp_path, victim, "nad", seed, 0.5 + 0.1 * seed - 0.01 * n)
    (six,) = comparisons(plans(victims), cells(tmp_path), HOW, ["asr"])
    assert six.difference == pytest.approx(-3.5)
    assert six.p == six.adjusted == pytest.approx(0.0059, abs=1e-4)
    assert six.marked
    assert (six.victims, six.seeds) == (6, 2)
    assert (six.low, six.high) == (pytest.approx(-3.5 - 1.963347, abs=1e-4), pytest.approx(-3.5 + 1.963347, abs=1e-4))
    (five,) = comparisons(plans(victims[:5]), cells(tmp_path), HOW, ["asr"])
    assert (five.p, five.marked) == (None, False)


def test_one_victim_has_its_interval_over_seeds(tmp_path):
    for seed, asr in enumerate((0.10, 0.14, 0.12)):
        write(tmp_path, "badnets-cifar10", "nad", seed, asr)
        write(tmp_path, "badnets-cifar10", "finetune", seed, 0.5)
    (one,) = comparisons(plans(seeds=3), cells(tmp_path), HOW, ["asr"])
    assert one.difference == pytest.approx(-38)
    assert one.high - one.difference == pytest.approx(4.302653 * 2 / math.sqrt(3), abs=1e-4)
    assert one.p is None


def test_seeds_that_only_one_side_has_are_not_compared(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1)
    write(tmp_path, "badnets-cifar10", "nad", 1, 0.9)
    write(tmp_path, "badnets-cifar10", "finetune", 0, 0.3)
    (one,) = comparisons(plans(), cells(tmp_path), HOW, ["asr"])
    assert one.difference == pytest.approx(-20)


def test_methods_are_compared_at_the_same_fraction(tmp_path):
    for label, asr in (("nad@0.2", 0.1), ("finetune@0.2", 0.3), ("nad", 0.2), ("finetune", 0.25)):
        write(tmp_path, "badnets-cifar10", label, 0, asr)
    both = [replace(plan, clean=clean) for clean in (0.05, 0.2) for plan in plans(seeds=1)]
    compared = comparisons(both, cells(tmp_path), HOW, ["asr"])
    assert [(c.method, c.control, round(c.difference)) for c in compared] == [
        ("nad", "finetune", -5),
        ("nad@0.2", "finetune@0.2", -20),
    ]


def test_holm():
    one = Comparison("a", "b", "asr", 0, 0, 0, 6, 3)
    adjusted = [c.adjusted for c in holm([replace(one, p=p) for p in (0.01, 0.04, 0.03)] + [one])]
    assert adjusted == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]


def test_markdown_and_latex_say_the_same(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.1)
    write(tmp_path, "badnets-cifar10", "nad", 1, 0.1)
    made = table(plans(), cells(tmp_path), "asr", HOW)
    assert markdown(made).splitlines() == [
        "| method | badnets-cifar10 | mean | worst | n |",
        "|---|---|---|---|---|",
        "| before | 100.00 (100.00, +0.00) | 100.00 |  | 1 |",
        "| nad `nad:lr=0.1` | 10.00 ± 0.00 (4.77, +5.23) | 10.00 | 10.00 | 2 |",
    ]
    assert r"nad & 10.00 $\pm$ 0.00 (4.77, +5.23) & 10.00 & 10.00 & 2 \\" in latex(made)
    said = latex(made, "10 % of a_set & more")
    assert r"\caption{10 \% of a\_set \& more: ASR}" in said
    assert r"\label{tab:asr}" in said


def test_a_report_is_a_function_of_the_folder(tmp_path):
    for seed in (0, 1):
        write(tmp_path / "results", "badnets-cifar10", "nad", seed, 0.1 * (seed + 1), reactivated={"asr": 0.7})
    drawn = [replace(p, x=float(p.seed), line=p.label) for p in plans()]
    for name in ("a", "b"):
        Report.of(drawn, HOW, cells(tmp_path / "results")).write(tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["plot.svg", "report.md", "results.csv", "tables.tex"]
    assert "nad `nad:lr=0.1`" in (tmp_path / "a" / "report.md").read_text()
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    frame = pd.read_csv(tmp_path / "a" / "results.csv")
    row = frame[(frame["method"] == "nad") & (frame["metric"] == "asr")].iloc[0]
    assert (row["mean"], row["n"], row["paper"]) == (pytest.approx(15), 2, 4.77)
    assert set(frame["metric"]) == {"acc", "acc_nt", "asr", "ra", "der", "seconds", "reactivated"}


def test_a_report_reads_as_the_golden_files(tmp_path):
    """After a change that is meant: look at what differs, then copy the new files to tests/report/golden."""
    drawn = [replace(p, x=float(p.seed), line=p.label) for p in plans(("badnets-cifar10", "blend-cifar10"))]
    for plan, asr in zip(drawn, (0.02, 0.04, 0.09, 0.03, 0.3, 0.51, 0.22)):  # the last one is missing
        curve = {"beta": {"chosen": 2.0, "curve": [{"setting": 2.0, "drop": 0.034}]}}
        again = {"reactivated": {"asr": 0.7}, "notes": {"resolved": "nad:x"} | curve} if plan.label == "nad" else {}
        write(tmp_path / "results", plan.victim, plan.label, plan.seed, asr, 0.8 - asr / 7, **again)
    Report.of(drawn, HOW, cells(tmp_path / "results")).write(tmp_path / "report")
    for golden in sorted((Path(__file__).parent / "golden").iterdir()):
        assert (tmp_path / "report" / golden.name).read_text() == golden.read_text(), golden.name


def test_a_folder_says_itself_what_is_in_it(tmp_path):
    write(tmp_path, "badnets-cifar10", "nad-0.1", 3, 0.1)
    write(tmp_path, "badnets-cifar10", "finetune-lr-0.1-seed", 4, 0.1)
    (b, a) = plans_of(cells(tmp_path))
    assert (a.victim, a.label, a.seed, a.name) == ("badnets-cifar10", "nad-0.1", 3, "badnets-cifar10/nad-0.1-3")
    assert (b.label, b.seed) == ("finetune-lr-0.1-seed", 4)


def test_a_page_is_drawn_between_its_markers(tmp_path):
    store = pages.Store(tmp_path, tmp_path / "zoo")
    write(tmp_path / "erasures", "badnets-cifar10", "clp", 0, 0.25)
    page = "Before.\n<!-- defenses asr -->\nold\n<!-- end defenses asr -->\nAfter.\n"
    drawn = pages.regenerated(page, store)
    assert drawn.startswith("Before.\n<!-- defenses asr -->\n\n| method | badnets-cifar10 |")
    assert "| clp | 25.00 |" in drawn
    assert "old" not in drawn
    assert drawn.endswith("<!-- end defenses asr -->\nAfter.\n")
    assert "; `nad bench defenses` makes them." in drawn
    assert pages.regenerated(drawn, store) == drawn


def test_numbers_in_prose_are_checked(tmp_path):
    store = pages.Store(tmp_path, tmp_path / "zoo")
    write(tmp_path / "erasures", "badnets-cifar10", "clp", 0, 0.2547)
    (tmp_path / "zoo" / "victim").mkdir(parents=True)
    write_json(tmp_path / "zoo" / "victim" / "result.json", {"after": {"asr": 0.9358}})
    right = "25.5<!-- = defenses clp badnets-cifar10 asr --> and 93.58 <!-- = victim asr -->"
    assert pages.checked(right, store) == []
    (wrong,) = pages.checked(right.replace("25.5", "25.4"), store)
    assert wrong == "25.4 is said of defenses clp badnets-cifar10 asr, which is 25.5"
    assert pages.checked(right.replace("25.5", "25.5 %\n"), store) == []
    assert pages.checked(right.replace("25.5", "many"), store) == [
        "no number stands before defenses clp badnets-cifar10 asr"
    ]
    assert pages.checked("<!-- defenses asr -->\n<!-- end defenses acc -->", store) == ["defenses asr has no end"]


def test_the_ends_of_the_seeds_can_be_cited(tmp_path):
    store = pages.Store(tmp_path, tmp_path / "zoo")
    for place, victim in enumerate(sorted({plan.victim for plan in grids.planned("defenses")})):
        for seed, asr in enumerate((0.2, 0.6, 0.4)):
            write(tmp_path / "erasures", victim, "clp", seed, asr + place / 100, acc=0.9 - asr / 10)
    victim = "badnets-cifar10"
    right = f"20<!-- = defenses clp {victim} asr low --> to 60<!-- = defenses clp {victim} asr high -->"
    assert pages.checked(right, store) == []
    assert pages.checked(right.replace("60", "59"), store) == [
        f"59 is said of defenses clp {victim} asr high, which is 60"
    ]
    assert pages.checked(f"84<!-- = defenses clp {victim} acc low -->", store) == []
    assert pages.checked("65<!-- = defenses clp mean asr high -->", store) == []
    assert pages.checked("42.5<!-- = defenses clp mean asr -->", store) == []
    with pytest.raises(NadError, match="no number is called"):
        pages.checked(f"20<!-- = defenses clp {victim} asr middle -->", store)


def test_a_difference_from_the_control_can_be_cited(tmp_path):
    store = pages.Store(tmp_path, tmp_path / "zoo")
    for label, method, asr in (("nad-paper", NAD_PAPER, 0.1), ("finetune-paper", "finetune:recipe=paper,lr=0.1", 0.3)):
        write(tmp_path / "erasures", "badnets-cifar10", label, 0, asr, notes={"asked": method})
    assert pages.checked("-20.0<!-- = defenses nad-paper against finetune-paper asr -->", store) == []
    with pytest.raises(NadError, match="no number is called"):
        pages.checked("1<!-- = defenses nad against finetune-paper asr -->", store)
    with pytest.raises(NadError, match="no number is called"):
        pages.checked("1<!-- = defenses nad-paper against finetune-paper asr middle -->", store)


def test_the_ends_of_the_interval_of_a_difference_can_be_cited(tmp_path):
    store = pages.Store(tmp_path, tmp_path / "zoo")
    for seed, asr in enumerate((0.1, 0.2)):  # 20 and 10 points less: Student's t with one degree of freedom is 12.706
        for label, method, left in (
            ("nad-paper", NAD_PAPER, asr),
            ("finetune-paper", "finetune:recipe=paper,lr=0.1", 0.3),
        ):
            write(tmp_path / "erasures", "badnets-cifar10", label, seed, left, notes={"asked": method})
    cited = "defenses nad-paper against finetune-paper asr"
    assert pages.checked(f"-15.0<!-- = {cited} -->", store) == []
    assert pages.checked(f"-78.5<!-- = {cited} low --> to +48.5<!-- = {cited} high -->", store) == []
    assert len(pages.checked(f"+48.5<!-- = {cited} low -->", store)) == 1


@pytest.mark.parametrize("reference", ["nowhere", "defenses clp nobody asr", "a b c d e"])
def test_a_number_from_nowhere_is_refused(tmp_path, reference):
    with pytest.raises(NadError):
        pages.checked(f"1.0<!-- = {reference} -->", pages.Store(tmp_path, tmp_path))


def test_an_unknown_table_names_the_close_one(tmp_path):
    with pytest.raises(NadError, match="there is no table 'attack'; did you mean attacks"):
        pages.drawn("attack", pages.Store(tmp_path, tmp_path))


def test_what_the_paper_prints():
    assert printed("T1/badnets/nad") == {"asr": 4.77, "acc_nt": 81.17}
    assert printed("T1/nothing/nad") == printed("T1/badnets/nothing") == {}
    for place in ("T1/badnets", "T99/badnets/nad"):
        with pytest.raises(NadError, match="the paper has no table at"):
            printed(place)


def test_the_published_numbers_that_grids_name_are_there():
    numbers: dict[str, bool] = {}
    for grid in grids.names():
        plans, how = grids.planned(grid), grids.layout(grid)
        for plan in plans:
            if plan.paper:
                numbers[plan.label] = bool(printed(plan.paper)) or numbers.get(plan.label, False)
            if how.before:
                printed(how.before.format(attack=grids.attack(plan.victim)))  # raises where there is no such table
        labels = {plan.label for plan in plans}
        assert {*how.against, *itertools.chain(*how.against.values())} <= labels
    assert all(numbers.values()), numbers


def test_a_grid_of_ones_own_names_file_and_line_of_what_is_wrong(tmp_path):
    from nad.bench import read

    path = tmp_path / "mine.toml"
    start = '[defaults]\nseeds = [0]\nvictims = ["badnets-cifar10"]\n\n[[method]]\nname = "a"\n'
    path.write_text(start + 'method = "finetun"\n')
    with pytest.raises(NadError, match=r"^mine\.toml, line 7: unknown defense 'finetun'; did you mean finetune"):
        read(str(path))
    path.write_text(start + 'method = "finetune"\nclean = [0.05, 0.2]\n')
    assert [cell.name for cell in read(str(path))] == ["badnets-cifar10/a-0", "badnets-cifar10/a@0.2-0"]
    path.write_text(start + 'methods = "finetune"\n')
    with pytest.raises(NadError, match="has no entry 'methods'; did you mean method"):
        read(str(path))
    path.write_text('[[method]]\nname = "a"\nmethod = "clp"\n')
    with pytest.raises(NadError, match=r"\[\[method\]\] 'a' lacks seeds, victims"):
        read(str(path))
    path.write_text(start.replace("[defaults]", "[defaults]\nseed = 1") + 'method = "clp"\n')
    with pytest.raises(NadError, match=r"\[defaults\] has no entry 'seed'; did you mean seeds"):
        read(str(path))
    path.write_text("[[")
    with pytest.raises(NadError, match="expected a TOML file"):
        read(str(path))


def test_an_x_fills_names_and_specifications_and_fractions_are_an_axis(tmp_path):
    path = tmp_path / "mine.toml"
    head = '[defaults]\nseeds = [0, 1]\nvictims = ["badnets-cifar10"]\n[[method]]\n'
    path.write_text(
        head + 'name = "beta-{x}"\nmethod = "nad:lr=0.1,beta={500x}/{1000x}/{x}"\nx = [0.5, 2]\npaper = "T7/{x}/sum"'
    )
    first, _, third, _ = grids.planned(str(path))
    assert (first.label, first.method, first.x) == ("beta-0.5", "nad:lr=0.1,beta=250/500/0.5", 0.5)
    assert (third.name, third.paper) == ("badnets-cifar10/beta-2-0", "T7/2/sum")
    assert len(grids.planned(str(path), seeds=1)) == 2
    path.write_text(head + 'name = "a"\nmethod = "clp"\nclean = [0.05, 0.2]\npaper = "T1/{attack}/nad"')
    found = {plan.x: plan.paper for plan in grids.planned(str(path))}
    assert found == {5: "T1/badnets/nad", 20: None}, "the paper's tables are of 5 %"


def test_what_varies_is_combined(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[method]]\nname = "nad-{lr}-x{k}"\nmethod = "nad:lr={lr},beta={500k}"\nseeds = [0]\n'
        'victims = ["badnets-cifar10"]\nvary = { lr = [0.01, 0.1], k = [1, 3] }'
    )
    found = {plan.label: plan.method for plan in grids.planned(str(path))}
    assert list(found) == ["nad-0.01-x1", "nad-0.01-x3", "nad-0.1-x1", "nad-0.1-x3"]
    assert found["nad-0.1-x3"] == "nad:lr=0.1,beta=1500"
    path.write_text(path.read_text().replace("-x{k}", ""))
    with pytest.raises(NadError, match="twice; give each method, and each x and what varies, a name of its own"):
        grids.planned(str(path))


def test_entries_without_spread_have_none():
    assert str(Entry(1.0)) == "1.00"
    assert json.dumps({"d": Entry(1.0).difference}) == '{"d": null}'


def test_seconds_are_of_cells_that_made_all_of_it_themselves(tmp_path):
    for seed, (alone, wall) in enumerate(((True, 9.0), (True, 90.0), (None, 90.0))):
        notes = {"alone": alone, "wall": wall}
        write(tmp_path, "badnets-cifar10", "nad", seed, 0.1, seconds=10.0 + seed, notes=notes)
    entry = table(plans(seeds=3), cells(tmp_path), "seconds", HOW).entries["nad"]["badnets-cifar10"]
    assert (entry.mean, entry.n) == (11.0, 1)


def test_a_plot_shows_what_the_tables_do(tmp_path):
    """Not a result of that name that was made with another specification."""
    own = [replace(plan, x=1.0) for plan in plans(seeds=1)]
    write(tmp_path, "badnets-cifar10", "nad", 0, 0.9, notes={"asked": "another:lr=1"})
    assert Report.of(own, HOW, cells(tmp_path)).found.empty
