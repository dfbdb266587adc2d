"""What the evidence of `nad purify` says where there is no time for it."""

import pytest

from nad.data.synthetic import signs
from nad.inversion import screened
from nad.models.create import create
from nad.pipeline.examining import Examination
from nad.pipeline.parts import Parts
from nad.runtime import Run
from nad.training import predictions


@pytest.mark.parametrize("budget", [1e-6, 0.0])
def test_a_budget_bounds_the_screening_too(budget):
    given, purified = create("wrn-10-1", 12), create("wrn-10-1", 12, seed=1)
    parts = Parts(signs("train", 48, size=16), signs("test", 24, size=16))
    run = Run(device="cpu")
    said, pictures = Examination(given, parts, run, budget).of(purified, predictions(purified, parts.test, run))
    assert "triggers.png" not in pictures
    if not budget:
        assert "classes" not in said
        return
    assert [(row["before"], row["after"]) for row in said["classes"]] == [({}, {})] * 12
    assert said["limits"][0] == "Within the budget 12 classes were not looked at."


def test_a_budget_is_for_all_networks_together(monkeypatch):
    given, asked = create("wrn-10-1", 12), []
    parts = Parts(signs("train", 48, size=16), signs("test", 24, size=16))

    def looked(*given, seconds):
        asked.append(seconds)
        return screened(*given, seconds=1e-6)

    monkeypatch.setattr("nad.pipeline.examining.screened", looked)
    for networks in (2, 4):
        Examination(given, parts, Run(device="cpu"), 1.0, networks=networks).look  # noqa: B018
    assert asked == [30.0, 15.0]


@pytest.mark.parametrize(
    ("reported", "networks", "sizes"),
    [(120, 2, (48, 120, True)), (24, 2, (24, 24, False)), (120, 3, (24, 24, False))],
)
def test_evidence_is_judged_on_the_reported_pictures_where_they_suffice_and_nothing_is_marked(
    reported, networks, sizes
):
    given, purified = create("wrn-10-1", 12), create("wrn-10-1", 12, seed=1)
    parts = Parts(signs("train", 48, size=16), signs("test", reported, size=16))
    run = Run(device="cpu")
    examined = Examination(given, parts, run, 1e-6, networks=networks)
    said, _ = examined.of(purified, predictions(purified, parts.test, run))
    assert (said["sought_on"], said["judged_on"], said["judged_apart"]) == sizes
