"""Scans of known networks: who is right, what other thresholds would give, and one family's thresholds from another."""

from pathlib import Path

from nad.report import scans
from nad.results import Count, write_json
from nad.verdict import Seen, Thresholds

NAMES = [str(label) for label in range(6)]


def scan(
    folder: Path,
    name: str,
    most: int,
    attack: str | None = None,
    family: str = "a-1",
    index: float = 0.0,
    asr: float | None = None,
) -> None:
    """A network whose class 0 is reached by `most` of 100 images, all others by 10, with an index of class 0."""
    rest = [Seen(n, Count(10, 100), 0.05, 1.0, 0.0) for n in NAMES if n != "0"]
    seen = [Seen("0", Count(most, 100), 0.01, 1.0, index), *rest]
    classes = [one.to_json() for one in seen]
    known = {"network": {"architecture": family}, "attack": attack, "asr": asr}
    write_json(folder / f"{name}.json", known | {"classes": classes})


def planted(folder: Path) -> list[scans.Scan]:
    scan(folder, "found", 90, "badnets:target=0,rate=0.1")
    scan(folder, "wrong", 90, "badnets:target=3,rate=0.1")
    scan(folder, "all", 90, "badnets:target=0,labels=all_to_all")
    scan(folder, "missed", 20, "wanet:target=0")
    scan(folder, "quiet", 12)
    scan(folder, "alarm", 80, family="torchvision:width8_b:depth=2")
    return scans.scans(folder)


def test_only_the_right_class_counts(tmp_path):
    found = {one.name: one for one in planted(tmp_path)}
    assert {name for name, one in found.items() if one.patch} == {"found", "wrong"}
    whole = scans.calibration(list(found.values()))
    assert (whole.alarms, whole.open) == (Count(1, 2), Count(0, 2))
    assert (whole.patches, whole.others) == (Count(1, 2), Count(0, 2))
    none = scans.calibration(list(found.values()), Thresholds(share=(0.95, 0.97)))
    assert (none.alarms.hits, none.patches.hits) == (0, 0)


def test_a_backdoor_that_was_not_learnt_cannot_be_found_and_is_not_counted(tmp_path):
    scan(tmp_path, "learnt", 20, "badnets:target=0", asr=0.5)
    scan(tmp_path, "failed", 20, "badnets:target=0", asr=0.49)
    whole = scans.calibration(scans.scans(tmp_path))
    assert (whole.patches, whole.alarms) == (Count(0, 1), Count(0, 0)), "nor is it a clean network"
    assert "| badnets | 1 | 0 | 0 | 0 | 1 |" in scans.by_attack(tmp_path)
    assert "| share | 0.3 | 0 of 0 | 0 of 1 |" in scans.roc(tmp_path)
    assert "| failed | a | badnets | 49 | 0 | nothing |" in scans.by_network(tmp_path)


def test_networks_that_set_the_thresholds_have_no_say_in_how_often_they_fail(tmp_path):
    planted(tmp_path)
    for name, counted in {"clean-cifar10-9": 2, "clean-signs": 2, "clean-signs-wrn-1": 3}.items():
        scan(tmp_path, name, 12, family="c-1")
        assert f"| all that set no threshold | in use | 1 of {counted} (" in scans.rates(tmp_path)


def test_tables(tmp_path):
    planted(tmp_path)
    table = scans.by_network(tmp_path)
    assert "| alarm | width | none |  |  | likely 0 | 0 80 | 0 0.0 |" in table
    assert "| missed | a | wanet |  | 0 | nothing | 0 20 |" in table
    assert scans.by_attack(tmp_path).splitlines()[2:] == [
        "| badnets | 3 | 1 | 2 | 0 | 0 |",
        "| wanet | 1 | 0 | 0 | 0 | 1 |",
        "| none | 2 | 0 | 1 | 0 | 1 |",
    ]
    whole = "| all that set no threshold | in use | 1 of 2 (9 to 91 %) |"
    assert whole in scans.rates(tmp_path)
    rows = [line for line in scans.rates(tmp_path).splitlines() if line.startswith("| a ")]
    assert "0 of 1 (0 to 79 %) | 0 of 1 (0 to 79 %) | 1 of 2 (9 to 91 %) | 0 of 2" in rows[0]
    assert "of the others: share" in rows[1]
    assert "| share | 0.9 | 0 of 2 | 1 of 2 | 0 of 2 |" in scans.roc(tmp_path)
    assert "| share | 0.8 | 1 of 2 | 1 of 2 | 0 of 2 |" in scans.roc(tmp_path)


def test_a_network_of_another_architecture_counts_with_the_class_it_names_as_its_target(tmp_path):
    planted(tmp_path)
    walked = {"classes": [{"class": "stop", "counts": [90, 100], "reached": 0.9}]}
    walked["classes"] += [{"class": name, "counts": [10, 100], "reached": 0.1} for name in NAMES]
    held = {"attack": "badnets", "target": "stop", "given": {"asr": 0.97}, "scan": walked}
    (tmp_path / "strangers").mkdir()
    write_json(tmp_path / "strangers" / "vit-gtsrb-badnets.json", held)
    found = scans.scans(tmp_path, tmp_path / "strangers")
    assert (len(found), found[-1].family, found[-1].target, found[-1].patch) == (7, "vit", "stop", True)
    assert scans.calibration(found).patches == Count(2, 3)
    assert "| vit | in use | none | none | 1 of 1 (" in scans.rates(tmp_path, tmp_path / "strangers")


def test_nothing_is_drawn_from_nothing(tmp_path):
    drawn = {draw(tmp_path) for draw in (scans.by_network, scans.by_attack, scans.rates, scans.roc)}
    assert drawn == {"not measured yet\n"}


def test_thresholds_are_the_lowest_without_a_false_alarm(tmp_path):
    for number, most in enumerate((12, 30, 52)):
        scan(tmp_path, f"clean-{number}", most, index=float(number))
    found = scans.chosen(scans.scans(tmp_path))
    assert found.share == (0.45, 0.45), "the interval of 52 of 100 begins at 42"
    assert found.index == (2.5, 2.5)
    assert scans.calibration(scans.scans(tmp_path), found).alarms.hits == 0
