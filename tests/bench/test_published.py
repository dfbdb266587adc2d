"""A result that is committed: made again from the committed network, it is the same."""

import os
from pathlib import Path
from statistics import stdev

import pytest
import torch

from nad.bench import Job, read, run_grid
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
