"""Reference ranges of evidence by hand, from files as benchmarks/evidence.py writes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from nad import evidence
from nad.report.evidence import State, ranges, references, separation, states, verdicts

RESULTS = Path(__file__).parents[2] / "results" / "evidence"


def one(
    network: str, attack: str | None, asr: float | None, before: list[dict[str, float]], after: list[dict[str, float]]
) -> dict[str, Any]:
    classes = [{"class": str(i), "before": b, "after": a} for i, (b, a) in enumerate(zip(before, after))]
    shift = [{"stage": "block1", "attention": 0.1}, {"stage": "block3", "attention": 0.4}]
    about = {"network": network, "attack": attack, "method": "nad", "before": {"asr": asr}, "after": {"asr": asr}}
    return about | {"classes": classes, "shift": shift, "weights": 0.2}


def seen(share: float, mask: float, anomaly: float, success: float = 0.99) -> dict[str, Any]:
    return {"reached": share, "counts": [round(400 * share), 400], "mask": mask, "anomaly": anomaly, "success": success}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quiet, odd = seen(0.1, 0.12, 0.5), seen(0.9, 0.01, 4.0)
    files = {
        "a-erased": one("a", "badnets", 0.02, [quiet, odd], [quiet, seen(0.2, 0.1, 1.0)]),
        "a-kept": one("a", "badnets", 0.9, [quiet, odd], [quiet, seen(0.3, 0.02, 3.0)]),
        "a-partly": one("a", "badnets", 0.3, [quiet, odd], [quiet, odd]),
        "b-fine": one("b", None, None, [quiet, seen(0.05, 0.001, 9.0, success=0.25)], [quiet, quiet]),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_each_network_is_its_most_suspicious_class(folder):
    found = states(folder)
    assert found[0] == State("backdoored", {"mask": 0.01, "anomaly": 4.0, "share": 0.9})
    assert found[1] == State("erased", {"mask": 0.1, "anomaly": 1.0, "share": 0.2, "shift": 0.4, "weights": 0.2})
    assert [one.kind for one in found] == ["backdoored", "erased", "still backdoored", "clean", "clean, purified"]
    assert found[3].values == {"mask": 0.12, "anomaly": 0.5, "share": 0.1}, "a patch that does not work says nothing"


def test_ranges_are_lowest_and_highest_and_how_many(folder):
    extra = State("erased", {"mask": 0.2345678, "anomaly": 0.1})
    found = references([*states(folder), extra])
    assert found["mask"]["erased"] == (0.1, 0.235, 2)
    assert found["anomaly"]["erased"] == (0.1, 1.0, 2)
    assert found["share"] == {
        "backdoored": (0.9, 0.9, 1), "erased": (0.2, 0.2, 1), "still backdoored": (0.3, 0.3, 1),
        "clean": (0.1, 0.1, 1), "clean, purified": (0.1, 0.1, 1),
    }  # fmt: skip
    assert found["shift"]["erased"] == (0.4, 0.4, 1)
    assert set(found) == {"mask", "anomaly", "share", "shift", "weights"}


def test_the_tables_by_hand(folder):
    lines = ranges(folder).splitlines()
    assert lines[0] == "|  | clean (1) | clean, purified (1) | backdoored (1) | still backdoored (1) | erased (1) |"
    assert lines[2] == "| smallest patch of a class, % of the picture | 12.0 | 12.0 | 1.0 | 2.0 | 10.0 |"
    told = separation(folder).splitlines()
    assert told[0] == "|  | backdoored / clean | still backdoored / erased | still backdoored / clean, purified |"
    assert told[2] == "| smallest patch of a class, % of the picture | 1.00 | 1.00 | 1.00 |"
    assert told[5] == "| attention at the deepest stage, distance from before |  | 0.50 | 0.50 |", "all moved as far"


def test_the_rules_of_a_scan_are_applied_to_both(folder):
    lines = verdicts(folder).splitlines()
    assert lines[2] == "| a | badnets | nad | 2.0 | undecided (1) | 2.0 | nothing |"
    assert lines[3] == "| a | badnets | nad | 90.0 | undecided (1) | 90.0 | undecided (1) |"
    assert lines[5] == "| b | none | nad |  | nothing |  | nothing |"


def test_nothing_is_said_before_it_is_measured(tmp_path):
    assert ranges(tmp_path) == separation(tmp_path) == verdicts(tmp_path) == "not measured yet\n"


def test_the_ranges_that_a_report_prints_are_those_that_were_measured():
    assert references(states(RESULTS)) == evidence.REFERENCES, "change REFERENCES in nad/evidence.py"
