"""The table of what STRIP flags."""

from nad.report.detection import flagged
from nad.results import write_json


def test_one_row_a_victim_over_its_seeds(tmp_path):
    for victim, seed, caught in (("a", 0, 400), ("a", 1, 500), ("b", 0, 5)):
        found = {"victim": victim, "seed": seed, "caught": [caught, 500], "false_alarms": [1, 100]}
        write_json(tmp_path / f"{victim}-{seed}.json", found)
    head, _, *rows = flagged(tmp_path).splitlines()
    assert head == "| victim | triggered pictures flagged, % | clean pictures flagged, % | n |"
    assert rows == ["| a | 90.00 ± 14.14 | 1.00 ± 0.00 | 2 |", "| b | 1.00 | 1.00 | 1 |"]
    assert flagged(tmp_path / "none") == "not measured yet\n"
