"""Results that are committed: of the code as it is, and the same when they are made again."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch

from nad.bench import Erasure, Job, read, run_grid
from nad.grids import names
from nad.results import read_json
from nad.runtime import Run

ROOT = Path(__file__).parents[2]
CELL = "badnets-cifar10-paper/finetune-paper"


def committed(seed: int) -> dict:
    return read_json(ROOT / "results" / "erasures" / f"{CELL}-{seed}.json")


@pytest.mark.real
def test_a_cell_of_table_1_is_made_again(tmp_path, monkeypatch):
    """To the last bit on the same kind of machine, else within three standard deviations of its five seeds."""
    if not os.environ.get("NAD_DATA"):
        pytest.skip("NAD_DATA does not point at the real images")
    monkeypatch.setenv("NAD_ZOO", str(ROOT / "zoo"))
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    (cell,) = (cell for cell in read("table1") if cell.name == f"{CELL}-0")
    theirs, threads = committed(0), torch.get_num_threads()
    torch.set_num_threads(theirs["notes"]["threads"])
    try:
        (status,) = run_grid([cell], Job(tmp_path, Path(os.environ["NAD_DATA"]), Run()))
    finally:
        torch.set_num_threads(threads)
    ours = status.result
    assert ours is not None, status.error
    assert ours["notes"]["fingerprint"] == theirs["notes"]["fingerprint"]
    if all(ours[what] == theirs[what] for what in ("run", "versions")):
        assert all(ours[moment] == theirs[moment] for moment in ("before", "after", "reactivated"))
    else:
        for metric in ("acc", "asr", "ra"):
            spread = 3 * stdev(committed(seed)["after"][metric] for seed in range(5))
            assert ours["after"][metric] == pytest.approx(theirs["after"][metric], abs=spread), metric


def versions(configuration: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """The integer version of every method in a configuration, by its place and name."""
    if isinstance(configuration, dict):
        if "version" in configuration:
            yield (*path, configuration["name"]), configuration["version"]
        for key, value in configuration.items():
            yield from versions(value, (*path, key))


def test_every_committed_cell_is_of_the_methods_as_they_are():
    """A method whose numbers changed has a higher version; what it gave before has to be made again."""
    cells = {cell.name: cell for grid in names() for cell in read(grid) if isinstance(cell, Erasure)}
    found = {name: ROOT / "results" / "erasures" / f"{name}.json" for name in cells}
    old = {}
    for name, path in found.items():
        if path.is_file():
            now, then = (
                dict(versions(one)) for one in (cells[name].defense().configuration(), read_json(path)["configuration"])
            )
            if changed := [place for place in now.keys() & then.keys() if now[place] != then[place]]:
                old[name] = changed
    assert not old


def test_no_result_is_there_twice_and_all_are_small():
    """Grids that ask for the same call it the same; the folder is data, to be carried along."""
    results = [read_json(path) for path in (ROOT / "results" / "erasures").glob("*/*.json")]
    times = Counter(result["notes"]["fingerprint"] for result in results)
    assert not [fingerprint for fingerprint, count in times.items() if count > 1]
    assert sum(path.stat().st_size for path in (ROOT / "results").rglob("*") if path.is_file()) < 10 << 20
