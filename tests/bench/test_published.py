"""Results that are committed: made again from the committed networks, they are the same."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nad.bench import Erasure, Job, read, run_grid
from nad.results import read_json
from nad.runtime import Run

ROOT = Path(__file__).parents[2]
CELLS = {cell.name: cell for grid in ("defenses", "teachers") for cell in read(grid) if isinstance(cell, Erasure)}


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "within"),
    [("badnets-cifar10/clean-0", 0.002), ("badnets-cifar10/finetune-0.1-100", 0.02)],
)
def test_a_committed_cell_is_made_again(name, within, tmp_path, monkeypatch):
    """Within what another machine's arithmetic may change: little without training, more with it."""
    if not os.environ.get("NAD_DATA"):
        pytest.skip("NAD_DATA does not point at the real images")
    monkeypatch.setenv("NAD_ZOO", str(ROOT / "zoo"))
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    cell = replace(CELLS[name], reactivate=False)
    (status,) = run_grid([cell], Job(tmp_path, Path(os.environ["NAD_DATA"]), Run()))
    assert status.result is not None, status.error
    committed = read_json(ROOT / "results" / "erasures" / f"{name}.json")
    for moment in ("before", "after"):
        for metric in ("acc", "asr", "ra"):
            assert status.result[moment][metric] == pytest.approx(committed[moment][metric], abs=within), metric
