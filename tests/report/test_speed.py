"""The tables of seconds and memory."""

import pytest

from nad.report import speed
from nad.results import write_json


def test_methods_come_quickest_first_and_inversions_say_how_far_they_are_apart(tmp_path):
    file = tmp_path / "speed.json"
    rows = {
        "mcr:t=0.3": {"seconds": 120.4, "ratio": 6.02, "peak_gib": 0.954},
        "clp": {"seconds": 9.6, "ratio": 0.48, "peak_gib": 0.7},
    }
    both = {"early": {"seconds": 61.2, "masks": [9.0, 40.0]}, "full": {"seconds": 140.7, "masks": [10.0, 39.0]}}
    write_json(file, {"methods": rows, "inversion": {"blend": both}})
    assert speed.methods(file).splitlines()[2:] == [
        "| `clp` | 10 | 0.48 | 0.70 |",
        "| `mcr:t=0.3` | 120 | 6.02 | 0.95 |",
    ]
    assert speed.inversion(file).splitlines()[2:] == ["| blend | 61 | 141 | 10.0 |"]
    both["full"]["masks"].append(1.0)
    write_json(file, {"methods": {}, "inversion": {"blend": both}})
    with pytest.raises(ValueError, match="longer"):
        speed.inversion(file)


def test_the_engine_is_what_is_around_its_cells(tmp_path):
    file = tmp_path / "engine.json"
    one = {"cells": 9, "in_cells": 100.0, "whole": 101.0, "expanding": 0.5, "busy": 0.9}
    two = {"cells": 9, "in_cells": 160.0, "whole": 90.9, "expanding": 0.5, "busy": 0.97}
    rounds = [{"1": one, "2": two}, {"1": one | {"whole": 100.2}, "2": two}, {"1": one | {"whole": 100.5}, "2": two}]
    write_json(file, {"rounds": rounds})
    assert speed.engine(file).splitlines()[2:] == [
        "| 1 | 9 | 3 | 1.00 (0.70 to 1.50) | 90 | 1.00 |",
        "| 2 | 9 | 3 |  | 97 | 0.90 (0.90 to 0.91) |",
    ]


@pytest.mark.parametrize("draw", [speed.methods, speed.inversion, speed.engine])
def test_what_was_not_measured_says_so(draw, tmp_path):
    assert draw(tmp_path / "none.json") == "not measured yet\n"
