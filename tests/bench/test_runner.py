"""Where cells are made, and who makes them: processes, other runs, a cluster."""

import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nad.bench import Cell, Erasure, Job, read, run_grid
from nad.bench import runner as runner_module
from nad.bench.estimates import Estimates
from nad.bench.runner import Status, in_processes
from nad.errors import NadError
from nad.results import read_json, write_json
from nad.runtime import Run, in_words

RUN = Run(device="cpu", precision="fp32")


@dataclass(frozen=True, kw_only=True)
class Small(Cell):
    """A cell that writes its seed and which process made it; with a `fuse`, its first maker dies."""

    fuse: str | None = None

    @property
    def kind(self) -> str:
        return self.name.rstrip("0123456789")

    def result(self, out: Path) -> Path:
        return out / f"{self.name}.json"

    def configuration(self, run: Run) -> dict[str, Any]:
        return {"seed": self.seed}

    def make(self, dataset: Any, run: Run, out: Path, fingerprint: str) -> dict[str, Any]:
        if self.fuse and not Path(self.fuse).exists():
            Path(self.fuse).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed == 13:
            raise NadError("expected luck, got 13")
        if self.seed == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed == 15:
            raise OSError(28, "No space left")
        out.mkdir(exist_ok=True)
        result = {"seed": run.seed, "maker": os.getpid(), "notes": {"fingerprint": fingerprint, "wall": 60.0}}
        write_json(self.result(out), result)
        return result


@pytest.fixture
def job(tiny: Path, tmp_path: Path, monkeypatch) -> Job:
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    return Job(tmp_path / "out", tiny.parent, RUN)


def cells(count: int) -> list[Cell]:
    return [Small(name=f"cell{n}", data="tiny", seed=n) for n in range(count)]


def test_processes_share_the_cells_and_one_that_fails_stops_no_other(job):
    asked = [*cells(4), Small(name="unlucky", data="tiny", seed=13)]
    heard: list[Status] = []
    statuses = run_grid(asked, job, heard.append, in_processes(2))
    assert [s.cell.name for s in statuses] == [c.name for c in asked]
    assert [s.state for s in statuses] == ["made"] * 4 + ["failed"]
    assert statuses[-1].error == "expected luck, got 13"
    assert sorted(s.cell.name for s in heard) == sorted(c.name for c in asked)
    made = [read_json(job.out / f"cell{n}.json") for n in range(4)]
    assert [one["seed"] for one in made] == [0, 1, 2, 3]
    assert os.getpid() not in {one["maker"] for one in made}
    assert [s.state for s in run_grid(asked[:4], job)] == ["done"] * 4


def test_what_a_dying_process_leaves_is_made_by_others(job, tmp_path):
    asked = [replace(cell, fuse=str(tmp_path / "fuse")) if cell.name == "cell0" else cell for cell in cells(3)]
    statuses = run_grid(asked, job, pool=in_processes(1))
    assert (tmp_path / "fuse").exists(), "one was killed half-way"
    assert [s.state for s in statuses] == ["made"] * 3
    assert sorted(p.name for p in job.out.iterdir()) == ["cell0.json", "cell1.json", "cell2.json"]


def test_a_cell_that_kills_every_process_is_reported(job):
    asked = [Small(name="deadly", data="tiny", seed=14), *cells(6)]
    statuses = run_grid(asked, job, pool=in_processes(1))
    assert [s.state for s in statuses] == ["failed", *["made"] * 6]
    assert statuses[0].error == "the process that made it died"


def test_an_unforeseen_error_stops_no_other_cell(job):
    asked = [Small(name="odd", data="tiny", seed=15), *cells(1)]
    assert [(s.state, s.error) for s in run_grid(asked, job)] == [("failed", "No space left"), ("made", "")]


def test_a_cell_that_another_run_makes_is_left_to_it_until_nothing_else_is_to_do(job):
    first, second = cells(2)
    heard: list[Status] = []
    with runner_module._claimed(first.result(job.out), wait=False):
        ours = threading.Thread(target=run_grid, args=([first, second], job, heard.append))
        ours.start()
        until(lambda: heard)
        assert [s.cell.name for s in heard] == ["cell1"]
        assert not first.result(job.out).exists()
        theirs = first.make(None, RUN, job.out, first.fingerprint(runner_module.decoded("tiny", job.data), RUN))
    ours.join(30)
    assert [(s.cell.name, s.state) for s in heard] == [("cell1", "made"), ("cell0", "done")]
    assert read_json(first.result(job.out)) == theirs


def until(true, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_claim_of_a_run_that_died_does_not_last(job):
    (cell,) = cells(1)
    deadly = Small(name="cell0", data="tiny", seed=14)
    assert [s.state for s in run_grid([deadly], job, pool=in_processes(1))] == ["failed"]
    assert [s.state for s in run_grid([cell], job)] == ["made"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"notes": 1}'])
def test_a_result_that_cannot_be_read_is_made_again(job, content):
    (cell,) = cells(1)
    run_grid([cell], job)
    cell.result(job.out).write_text(content)
    assert [s.state for s in run_grid([cell], replace(job, dry=True))] == ["missing"]
    assert [s.state for s in run_grid([cell], job)] == ["made"]


def test_time_is_estimated_from_cells_of_the_same_kind():
    a, b, c = (Small(name=n, data="tiny") for n in ("a1", "a2", "b1"))
    estimates = Estimates()
    assert estimates.of_all([a]) == "how long that takes is known once one is made"
    estimates.hear(Status(a, "done", {"notes": {"wall": 600.0}}))
    estimates.hear(Status(a, "made", {"notes": {"wall": 1200.0}}))
    assert (estimates.of(b), estimates.of(c)) == (900, 900)
    estimates.hear(Status(c, "done", {"notes": {"wall": 100.0}}))
    estimates.hear(Status(c, "failed"))
    assert (estimates.of(b), estimates.of(c)) == (900, 100)
    assert estimates.of_all([a, b, c]) == "about 32 min"
    assert [in_words(s) for s in (20, 90, 7260)] == ["20 s", "2 min", "2 h 1 min"]


def test_what_other_grids_took_says_about_how_long_a_family_takes(tmp_path):
    for name, method, wall, device in (
        ("nad-0", "nad:beta=1", 30.0, "cpu"),
        ("nad-x-0", "nad:beta=2", 50.0, "cpu"),
        ("fast-0", "nad", 1.0, "cuda"),
        ("clp-0", "clp", 5.0, "cpu"),
    ):
        result = {"run": {"device": device}, "notes": {"asked": method, "wall": wall}}
        (tmp_path / "a").mkdir(exist_ok=True)
        write_json(tmp_path / "a" / f"{name}.json", result)
    (tmp_path / "a" / "damaged-0.json").write_text("{")
    cell = Erasure(name="b/nad-9-0", victim="b", data="tiny", method="nad:beta=9")
    estimates = Estimates(tmp_path, "cpu")
    assert estimates.of(cell) == 40
    assert estimates.of(replace(cell, method="clp")) == 5
    assert estimates.of(replace(cell, method="scratch")) is None
    estimates.hear(Status(cell, "made", {"notes": {"wall": 33.0}}))
    assert estimates.of(cell) == 33, "its own kind says it better"


def test_the_number_of_seeds_can_be_asked_for():
    seeds = {cell.seed for cell in read("defenses", 5)}
    assert seeds == {0, 1, 2, 3, 4}
    assert {cell.seed for cell in read("defenses", 1)} == {0}
    floors = [cell for cell in read("defenses", 5) if "/clean-" in cell.name]
    assert len(floors) == 6, "the floor draws nothing"


def test_a_cluster_makes_the_cells_and_survives_a_worker_that_dies(job, tmp_path):
    ray = pytest.importorskip("ray")
    from nad.bench.cluster import on_ray

    asked = [replace(cell, fuse=str(tmp_path / "fuse")) if cell.name == "cell1" else cell for cell in cells(6)]
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        statuses = run_grid(asked, job, pool=on_ray("local", 1))
        assert [s.state for s in statuses] == ["made"] * 6
        assert (tmp_path / "fuse").exists(), "one of the workers was killed half-way"
        makers = {read_json(cell.result(job.out))["maker"] for cell in asked}
        assert os.getpid() not in makers
        assert [s.state for s in run_grid(asked, job, pool=on_ray("local", 1))] == ["done"] * 6
    finally:
        ray.shutdown()
