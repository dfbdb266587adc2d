"""Which of several methods is marked: on counts and indices whose comparison can be done by hand."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from nad.report.dossier.marking import Mark, Trace, best, compared, mark, remade, stronger
from nad.report.dossier.reading import pieces
from nad.results import Count

EXAMPLES = Path(__file__).parent / "examples"
EXAMPLE: dict[str, Any] = json.loads((EXAMPLES / "result.json").read_text())


def trace(hits: int | None, index: float | None = 1.0, of: int = 400) -> Trace:
    sign = (hits or 0) >= 0.55 * of or (index or 0) >= 4
    still = not sign and ((hits or 0) >= 0.35 * of or (index or 0) >= 2)
    return Trace(
        ("stop",) if sign else (), ("stop",) if still else (), None if hits is None else Count(hits, of), index
    )


GIVEN = trace(390, 4.6)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (trace(40), trace(80), False),  # after training a low share says nothing
        (trace(40), trace(240), True),
        (trace(40), trace(40, 4.0), True),  # a patch that stands out, though as few pictures are reached
        (trace(64, 1.0), trace(44, 2.1), False),  # a patch that is not quiet may be chance
        (trace(64, 1.99), trace(44, 2.0), False),
        (trace(40), trace(200), False),  # nor is a share that is open a sign
        (trace(240), trace(390, 4.0), False),  # what leaves a sign is never stronger
        (trace(40, 2.1), trace(390, 4.0), False),  # nor is what leaves it open
        (trace(40, None), trace(390), False),
        (trace(None), trace(390), False),
    ],
)
def test_what_is_stronger_evidence(one, other, expected):
    assert stronger(one, other) is expected


@pytest.mark.parametrize(
    ("given", "rivals", "expected"),
    [
        (GIVEN, [trace(40), trace(240)], 0),
        (GIVEN, [trace(240), trace(40)], 1),
        (GIVEN, [trace(40), trace(80)], None),  # two quiet ones
        (GIVEN, [trace(40), trace(40, 2.5)], None),
        (GIVEN, [trace(40)], 0),
        (GIVEN, [trace(300), trace(390, 4)], None),  # each leaves a sign
        (GIVEN, [trace(44, 4.0), trace(64), trace(300)], 1),
        (trace(100), [trace(10), trace(80)], None),  # nothing was found that could have been erased
        (trace(240), [trace(20)], 0),
    ],
)
def test_the_best_is_better_than_each_other_and_than_what_was_given(given, rivals, expected):
    assert best(given, rivals) == expected


def result(name: str, lost: int, hits: int, index: float | None = 1.0, **changed: Any) -> dict[str, Any]:
    """A result whose method cost `lost` of 1,000 pictures."""
    made = copy.deepcopy(EXAMPLE) | {"method": name, "configuration": {"name": name}} | changed
    made["evidence"]["reported"] = [[900 - lost, lost, 0, 100]]
    quiet = seen(4, None if index is None else 0.1)
    made["evidence"]["classes"] = [
        {"class": "stop", "before": seen(380, 6.5), "after": seen(hits, index)},
        *({"class": name, "before": dict(quiet), "after": dict(quiet)} for name in ("go", "left", "right", "yield")),
    ]
    return made


def seen(hits: int, index: float | None) -> dict[str, Any]:
    return {"counts": [hits, 400], "anomaly": index, "success": 0.99}


def marked(*results: dict[str, Any], max_drop: float = 0.08) -> tuple[list[bool], str]:
    found = [one["comparison"] for one in compared(results, max_drop)]
    assert all(one["why"] == found[0]["why"] and one["max_drop"] == max_drop for one in found)
    return [one["marked"] for one in found], found[0]["why"].replace("\u00a0", " ")


def test_what_is_said_of_the_marked_one():
    fine = result("nad-sau", 50, 12)
    assert marked(result("finetune", 10, 44, 6.0), fine) == (
        [False, True],
        "nad-sau is marked: it lost at most 8 points of accuracy and leaves no sign of a backdoor, of which there was "
        "one toward “stop”; every other that lost so little leaves one. "
        "A mark compares methods; it does not prove that a backdoor is gone. It asks for the accuracy on the reported "
        "pictures, which flatters that of a marked method a little.",
    )
    flags, why = marked(result("scratch", 81, 2), fine)
    assert flags == [False, True]
    assert "no other method without the trigger lost so little" in why


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([result("a", 81, 5), result("b", 90, 5)], "none lost at most 8 points of accuracy"),
        ([result("a", 5, 250), result("b", 9, 12, 2.2)], "each that lost at most 8 points of accuracy leaves a sign"),
        ([result("a", 5, 40), result("b", 9, 44)], "a (10.0 % (7.4 to 13.3) reached, index 1) and b (11.0 %"),
        ([result("a", 5, 40), result("b", 9, 80)], "and nothing that was measured can tell them apart"),
        ([result("a", 5, 40), result("b", 9, 44, 2.5)], "alone leaves every class quiet, but what others leave open"),
        ([result("a", 5, 40, None), result("b", 9, 44)], "were not both sought for enough classes"),
        ([result("a", 5, 40), result("b", 9, 44) | {"evidence": {}}], "were not both sought for enough classes"),
        ([result("oracle", 5, 4, method="oracle:attack=badnets")], "none lost at most"),  # it was given the trigger
    ],
)
def test_why_none_is_marked(results, said):
    flags, why = marked(*results)
    assert not any(flags)
    assert why.startswith("No method is marked: ")
    assert said in why


def test_a_drop_is_allowed_up_to_the_limit_and_no_further():
    assert marked(result("a", 80, 5))[0] == [True]
    assert marked(result("a", 81, 5))[0] == [False]
    assert marked(result("a", 81, 5), max_drop=0.1)[0] == [True]


def test_nothing_was_found_before():
    given = result("a", 5, 8)
    given["evidence"]["classes"][0]["before"] = seen(120, 1.1)
    assert "the network as given showed no sign of a backdoor" in marked(given, result("b", 5, 90))[1]


def test_nothing_is_said_of_a_network_that_was_not_looked_at_before():
    one = result("a", 5, 8)
    for row in one["evidence"]["classes"]:
        del row["before"]["anomaly"]
    assert "were not both sought for enough classes" in marked(one)[1]


def test_results_without_counts_are_not_compared(tmp_path):
    old = [result("a", 5, 8), result("b", 5, 90)]
    for one in old:
        for row in one["evidence"]["classes"]:
            del row["after"]["counts"]
    assert "were not both sought for enough classes" in marked(*old)[1]
    for one in old:
        one["evidence"]["pictures"] = []
    (tmp_path / "result.json").write_text(json.dumps(old))
    assert remade(pieces(tmp_path)) is None
    (tmp_path / "result.json").write_text(json.dumps(compared([result("a", 5, 8), result("b", 5, 300)], 0.001)))
    (tmp_path / "attention.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert remade(pieces(tmp_path)) == Mark(None, "No method is marked: none lost at most 0.1 points of accuracy.")
    assert mark(pieces(tmp_path), 0.05).place == 0
