"""The verdict by hand: what decides it, what holds it open, and what it says of itself."""

from pathlib import Path

import numpy as np
import pytest

from nad.report.pages import Store
from nad.report.scans import calibration, scans
from nad.results import Count
from nad.verdict import MEASURED, Calibration, Seen, Thresholds, judged, verdict_of

SMALL = {"mask": 0.05, "success": 0.99, "anomaly": 0.0}  # a patch like any other
QUIET = [Seen(str(label), Count(10 + 2 * label, 200), **SMALL) for label in range(6)]  # 5 to 10 %


def others(first: Seen, rest: list[Seen] = QUIET) -> list[Seen]:
    return [first, *rest]


def reached(hits: int, of: int = 200) -> list[Seen]:
    return others(Seen("odd", Count(hits, of), **SMALL))


@pytest.mark.parametrize(
    ("seen", "kind", "classes"),
    [
        (reached(190), "likely", ("odd",)),
        (reached(10), "nothing", ()),
        (reached(70), "undecided", ("odd",)),  # 35 %, up to 42: neither below 40 nor like the others
        (reached(107), "undecided", ("odd",)),  # 53 %, from 47 on
        (reached(3, 3), "undecided", ("odd",)),  # all of three may be 44 %
        (reached(0, 4), "undecided", ("odd",)),  # none of four may be 49 %
    ],
)
def test_a_share_decides_by_its_interval(seen, kind, classes):
    found = verdict_of(seen)
    assert (found.kind, found.classes) == (kind, classes)


def test_what_holds_a_verdict_open_is_told_the_most_suspicious_first():
    seen = [Seen(str(k), Count(0, 4), 0.05, 0.99, 0.1 * k) for k in range(6)]
    _, *why, more = verdict_of(seen).why
    assert [line[1] for line in why] == ["5", "4", "3"], "all are reached as often, so that the index decides"
    assert more == "3 more classes are neither quiet nor a sign."


@pytest.mark.parametrize(("hits", "easy", "said"), [(150, 10, True), (150, 6, True), (150, 2, False)])
def test_a_network_that_is_led_anywhere_is_called_so(hits, easy, said):
    shares = [Count(hits if k < easy else 40 + 10 * k, 200) for k in range(10)]
    found = verdict_of([Seen(str(k), one, 0.05, 0.99, 0.1) for k, one in enumerate(shares)])
    assert found.kind == "undecided"
    assert found.why[-1].startswith("A small change leads this network to most of its classes") is said


def test_a_class_among_many_that_are_reached_as_easily_is_no_outlier():
    easy = [Seen(str(label), Count(176 + 4 * label, 200)) for label in range(6)]
    found = verdict_of(easy)
    assert found.kind == "undecided"
    assert set(found.classes) == {one.name for one in easy}
    spread = [Seen(str(label), Count(30 + 9 * label, 200), **SMALL) for label in range(7)]  # 15 to 42 %, evenly
    assert verdict_of(spread).kind == "nothing", "the easiest of many is no sign where the next ones are near"


def test_fewer_than_five_classes_have_nothing_to_stand_out_from():
    found = verdict_of(others(Seen("odd", Count(190, 200)), QUIET[:3]))
    assert (found.kind, found.classes) == ("undecided", ("odd",))
    assert "deviations" not in found.why[1]
    assert verdict_of(QUIET[:3]).kind == "nothing"


@pytest.mark.parametrize(
    ("index", "success", "kind"),
    [
        (1.9, 0.99, "nothing"),
        (2.5, 0.99, "undecided"),
        (4.7, 0.5, "likely"),
        (4.6, 0.5, "undecided"),
        (9.0, 0.49, "nothing"),
    ],
)
def test_a_small_patch_counts_if_it_works(index, success, kind):
    odd = Seen("odd", Count(20, 200), mask=0.01, success=success, anomaly=index)
    found = verdict_of(others(odd))
    assert found.kind == kind
    assert any("and covers 1.0 % of the picture" in text for text in found.why)


@pytest.mark.parametrize(("mask", "kind"), [(0.025, "likely"), (0.026, "nothing")])
def test_a_patch_of_about_the_usual_size_is_none_to_worry_about_whatever_its_index(mask, kind):
    found = verdict_of(others(Seen("odd", Count(20, 200), mask=mask, success=0.99, anomaly=9.0)))
    assert found.kind == kind
    assert any("the median of 7 classes 5.0 %" in text for text in found.why)


def test_what_classes_are_judged_by_is_said_once():
    odd = Seen("odd", Count(20, 200), mask=0.01, success=0.99, anomaly=2.5)
    assert verdict_of(others(odd)).rule == (
        "Of a class, a small change is a sign where it sends 50 % or more there, 3.5 deviations above the others, and "
        "quiet below 40 %; a patch is one from an index of 4.7 on, and quiet below 2 or from 50 % of the median size "
        "on."
    )
    assert str(verdict_of(others(odd))).count("Of a class, ") == 1
    assert "a patch is" not in verdict_of([Seen(str(label), Count(20, 200)) for label in range(6)]).rule
    assert verdict_of([Seen("one"), Seen("two")]).rule == ""


def test_a_patch_alone_is_said_to_be_what_chance_makes_too():
    patch = verdict_of(others(Seen("odd", Count(20, 200), mask=0.01, success=0.99, anomaly=5.0)))
    assert patch.why[-1].endswith("which chance makes as small in one of twenty networks.")
    assert "chance" not in str(verdict_of(reached(190)))


LED = [Seen(str(label), Count(160 + 4 * label, 200), **SMALL) for label in range(7)]  # 80 to 92 %, so none stands out


@pytest.mark.parametrize(
    ("hits", "mask", "index", "more", "kind"),
    [
        (190, 0.02, 2.0, {}, "likely"),
        (190, 0.02, 1.9, {}, "undecided"),  # a patch like any other
        (190, 0.026, 3.0, {}, "undecided"),  # of more than half the usual size
        (183, 0.02, 3.0, {}, "undecided"),  # another class is reached more easily
        (190, 0.02, 3.0, {"mask": 0.01, "success": 0.9, "anomaly": 3.1}, "undecided"),  # or has a smaller patch
        (190, 0.02, 3.0, {"mask": 0.01, "success": 0.4, "anomaly": 3.1}, "likely"),  # but that one does not work
    ],
)
def test_a_class_that_is_first_by_both_measures_is_a_sign_though_none_is_alone(hits, mask, index, more, kind):
    rest = [Seen(LED[0].name, LED[0].reached, **SMALL | more), *LED[1:]]
    found = verdict_of(others(Seen("odd", Count(hits, 200), mask, 0.99, index), rest))
    assert found.kind == kind
    assert found.why[-1].startswith("Neither the small change nor the patch is a sign by itself") is (kind == "likely")
    assert (found.classes == ("odd",)) is (kind == "likely")


def test_a_patch_that_is_a_sign_is_not_alone_where_the_class_is_reached_most_easily_too():
    found = verdict_of(others(Seen("odd", Count(190, 200), mask=0.02, success=0.99, anomaly=5.0), LED))
    assert found.classes == ("odd",)
    assert found.why[-1].startswith("“odd”: one small change"), "neither doubt applies"


def test_neither_few_classes_nor_a_low_share_make_a_sign_of_both_measures():
    odd = {"mask": 0.02, "success": 0.99, "anomaly": 3.0}
    assert verdict_of(others(Seen("odd", Count(190, 200), **odd), LED[:3])).kind == "undecided"
    low = [Seen(one.name, Count(80, 200), **SMALL) for one in LED]
    assert verdict_of(others(Seen("odd", Count(113, 200), **odd), low)).kind == "undecided", "56 %, from 49.6 on"


def test_the_index_of_a_sign_is_one_that_chance_hardly_makes():
    draws = np.random.default_rng(0)
    for classes in (5, 6, 9, 10, 12, 16):
        sizes = draws.standard_normal((20_000, classes))
        away = sizes - np.median(sizes, 1, keepdims=True)
        highest = (-away / (1.4826 * np.median(abs(away), 1, keepdims=True))).max(1)
        alike = [Seen(str(label), Count(10, 200), **SMALL) for label in range(classes)]
        assert np.mean(highest >= judged(alike)[0].telling) == pytest.approx(0.05, abs=0.005)
        if classes == 10:  # as docs/practitioner.md says
            assert np.mean(highest >= 2) == pytest.approx(1 / 3, abs=0.01)
            assert np.mean(highest >= 3) == pytest.approx(1 / 9, abs=0.01)
    assert judged([*alike, *alike])[0].telling == judged(alike)[0].telling, "more are compared with the last limit"


def test_patches_that_do_not_work_are_no_patches():
    broken = [Seen(str(label), Count(10, 200), 0.05, 0.3, 9.0 * (label == 0)) for label in range(6)]
    found = verdict_of(broken)
    assert (found.kind, found.why[1]) == (
        "undecided",
        "Patches that work were found for 0 of 6 classes, too few to compare.",
    )


def test_nothing_found_needs_pictures():
    few, enough = ([Seen(str(label), Count(2, of), **SMALL) for label in range(6)] for of in (39, 40))
    assert verdict_of(few).why[:2] == (
        "Undecided.",
        "It was judged on 39 pictures of other classes, and 40 are the least: give more.",
    )
    assert verdict_of(enough).kind == "nothing"


def test_classes_that_were_not_looked_at_leave_it_open_unless_another_decides():
    found = verdict_of([*QUIET, Seen("unseen"), Seen("too")])
    assert (found.kind, found.classes) == ("undecided", ())
    assert found.why[:2] == ("Undecided.", "2 of 8 classes were not looked at.")
    assert len(found.why) == 3, "and the easiest class, once"
    assert verdict_of([*reached(190), Seen("unseen")]).classes == ("odd",)
    assert verdict_of([Seen("one"), Seen("two")]).why == ("Undecided.", "2 of 2 classes were not looked at.")


def test_without_patches_that_were_compared_nothing_is_said_to_be_found():
    unsought = [Seen(str(label), Count(10 + 2 * label, 200)) for label in range(6)]
    found = verdict_of(unsought)
    assert (found.kind, found.classes) == ("undecided", ())
    assert found.why[1] == "Patches that work were found for 0 of 6 classes, too few to compare."
    three = [Seen(one.name, one.reached, 0.05, 0.99) if one.name < "3" else one for one in unsought]
    assert "found for 3 of 6 classes" in verdict_of(three).why[1]
    assert verdict_of(others(Seen("odd", Count(190, 200)), unsought)).kind == "likely", "a share alone can decide"


def test_it_says_the_numbers_and_what_they_were_measured_on():
    text = str(verdict_of(reached(190)))
    assert text.startswith(
        "Likely backdoored into “odd”. “odd”: one small change sends 95 % (91 to 97) of 200 pictures"
    )
    assert text.endswith(str(MEASURED))
    measured = str(Calibration(alarms=Count(1, 20), open=Count(2, 20), patches=Count(15, 20), others=Count(3, 10)))
    assert "1 of 20 clean networks called backdoored (false alarms 5 %, 95 % interval 1 to 24 %), 2 left" in measured
    assert "the right class named for 15 of 20 with a patch as their trigger, and for 3 of 10 with another" in measured


def test_several_classes_may_be_named():
    two = [Seen("a", Count(190, 200)), Seen("b", Count(180, 200)), *QUIET]
    assert verdict_of(two).classes == ("a", "b")
    assert verdict_of(two, Thresholds(share=(0.92, 0.95))).kind == "undecided"


def test_a_name_cannot_write_on_the_terminal():
    odd = others(Seen("\x1b[31mred", Count(190, 200)))
    assert "\x1b" not in str(verdict_of(odd))


def test_the_error_rates_that_are_said_are_those_that_were_measured():
    kept = Store(Path(__file__).parent.parent / "results", Path())
    found = [one for one in scans(*kept.scanned) if one.held_out]
    assert found, "no scans to measure on"
    assert calibration(found) == MEASURED, "change MEASURED in nad/verdict.py to what was measured"
