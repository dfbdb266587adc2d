"""`nad bench` as a user runs it: a grid of one's own, on a victim that is trained first."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nad import user_code
from nad.bench import Network
from nad.defenses import DEFENSES

if TYPE_CHECKING:
    from conftest import Nad

GRID = """
[table]
against.nad = ["finetune"]

[defaults]
seeds = [0, 1]
victims = ["badnets-cifar10"]
clean = 0.5

[[method]]
name = "clean"
method = "clean"
seeds = [0]

[[method]]
name = "finetune"
method = "finetune:lr=0.05,epochs=1,batch=16"

[[method]]
name = "nad"
method = "nad:teacher=(finetune:lr=0.05,epochs=1,batch=16),lr=0.01,beta=1,epochs=1,batch=16"
"""
SHORT = {"data": "tiny", "model": "wrn-10-1", "regime": "paper", "epochs": 1}


@pytest.fixture
def where(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The grid's file and the options that keep it here; the zoo has two networks to train."""
    (tmp_path / "data").mkdir()
    shutil.copytree(tiny, tmp_path / "data" / "tiny")
    (tmp_path / "mine.toml").write_text(GRID)
    victims = [Network(name="badnets-cifar10", attack="badnets", **SHORT), Network(name="clean-cifar10", **SHORT)]
    for place in ("nad.bench.grid.networks", "nad.cli.bench.networks"):
        monkeypatch.setattr(place, lambda: victims)
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("NAD_CACHE", str(tmp_path / "cache"))
    here = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--device", "cpu", "--precision", "fp32")
    return (str(tmp_path / "mine.toml"), *map(str, here))


def test_from_nothing_to_a_table(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    ran = nad("bench", *where, "--seeds", 1)
    assert ran.code == 0, ran.err
    said = [line.partition(",")[0] for line in ran.out.splitlines()]
    cells = [f"badnets-cifar10/{m}@0.5-0: made" for m in ("clean", "finetune", "nad")]
    assert said == ["badnets-cifar10: made", "clean-cifar10: made", *cells]
    rerun = nad("bench", *where)
    assert rerun.out.count(": done") == 3
    assert rerun.out.count(": made") == 2, "the grid's own second seed"
    assert "of 5 are missing" not in rerun.out
    rows = nad("report", tmp_path / "out", "--json").json
    seeds = {row["method"]: row["n"] for row in rows if row["metric"] == "acc"}
    assert seeds == {"before": 1, "clean@0.5": 1, "finetune@0.5": 2, "nad@0.5": 2}


def numbers(folder: Path) -> dict[str, list[Any]]:
    """Of every result what was measured: all but times."""
    made = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))}
    return {name: [one[key] for key in ("before", "after", "method")] for name, one in made.items()}


@pytest.mark.parametrize(
    "stage",
    [
        "nad.attacks.base.Attack.poison",
        "nad.pipeline.victims.fit",
        "nad.defenses.finetune.Finetune.erase",  # the teacher
        "nad.defenses.nad.fit",
        "nad.pipeline.erasing.evaluate",
    ],
)
def test_a_run_that_is_killed_at_any_stage_ends_as_if_it_never_was(
    nad: "Nad", where: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    line = ("bench", *where, "--only", "*/nad@0.5-*", "--seeds", 1)
    assert nad(*line).code == 0
    whole = numbers(tmp_path / "out")
    for made in ("out", "zoo", "cache"):
        shutil.rmtree(tmp_path / made)
    erased, erase = [], DEFENSES["finetune"].erase

    def stopped(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, stopped)
        ran = nad(*line)
        assert (ran.code, list((tmp_path / "out").glob("*/*"))) == (130, []), ran.err
    monkeypatch.setattr(DEFENSES["finetune"], "erase", lambda *given: erased.append(1) or erase(*given))
    rerun = nad(*line)
    assert rerun.code == 0, rerun.err
    assert numbers(tmp_path / "out") == whole
    before_the_teacher = stage.partition(".")[2].startswith(("attacks", "pipeline.victims", "defenses.finetune"))
    assert len(erased) == before_the_teacher, "a teacher that was finished is not made again"
    assert ("badnets-cifar10: made" in rerun.out) == (
        stage in ("nad.attacks.base.Attack.poison", "nad.pipeline.victims.fit")
    )


def test_two_runs_share_a_folder_and_make_each_cell_once(where: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(TWO.format(victims=repr(SHORT)))
    line = [sys.executable, str(script), "bench", *where]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for _ in range(2)
    ]
    said = [run.communicate(timeout=280) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    made = Counter(words.partition(": made")[0] for out, _ in said for words in out.splitlines() if ": made" in words)
    cells = [f"badnets-cifar10/{name}@0.5-{seed}" for name in ("finetune", "nad") for seed in (0, 1)]
    assert made == Counter(["badnets-cifar10", "clean-cifar10", "badnets-cifar10/clean@0.5-0", *cells])
    assert all(out.count("badnets-cifar10/") == 5 for out, _ in said), "both know all in the end"


TWO = """
import sys
import nad.bench.grid, nad.cli.bench
from nad.bench import Network
from nad.cli import main

shared = {victims}
victims = [Network(name="badnets-cifar10", attack="badnets", **shared), Network(name="clean-cifar10", **shared)]
nad.bench.grid.networks = nad.cli.bench.networks = lambda: victims
main()
"""


def test_a_grid_may_bring_its_own_victims(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    shared = "".join(f"{key} = {json.dumps(value)}\n" for key, value in SHORT.items())
    grid = f'[[cell]]\nname = "own"\nattack = "badnets:target=1"\n{shared}' + GRID.replace("badnets-cifar10", "own")
    (tmp_path / "mine.toml").write_text(grid)
    ran = nad("bench", *where, "--seeds", 1, "--only", "own/clean*,own/finetune*")
    assert ran.code == 0, ran.err
    said = [line.partition(",")[0] for line in ran.out.splitlines()]
    erased = ["own/clean@0.5-0: made", "own/finetune@0.5-0: made"]
    assert said == ["clean-cifar10: made", "own: made", *erased], "the zoo has a clean one like it"
    assert (tmp_path / "zoo" / "own" / "model.json").is_file()
    (tmp_path / "mine.toml").write_text(grid.replace('"own"', '"clean-cifar10"'))
    ran = nad("bench", *where, "--dry-run")
    assert "mine.toml, line 2: the zoo has a network clean-cifar10; name it anew" in ran.err


OWN_METHOD = """
from dataclasses import dataclass

import nad


@nad.DEFENSES.register("untouched")
@dataclass(frozen=True, kw_only=True)
class Untouched(nad.Defense):
    def erase(self, model, images, run):
        return nad.Outcome(model, self)
"""


def test_a_victim_of_another_grid_is_not_taken_for_the_grid_s_own(
    nad: "Nad", where: tuple[str, ...], tmp_path: Path
) -> None:
    shared = "".join(f"{key} = {json.dumps(value)}\n" for key, value in SHORT.items())
    grid = f'[[cell]]\nname = "own"\nattack = "badnets:target=1"\n{shared}' + GRID.replace("badnets-cifar10", "own")
    only = ("--seeds", 1, "--only", "own/finetune*")
    (tmp_path / "mine.toml").write_text(grid)
    assert nad("bench", *where, *only).code == 0
    (tmp_path / "zoo" / ".own.abcd_123").mkdir()  # what a run leaves that is killed while it trains
    (tmp_path / "mine.toml").write_text(grid.replace("target=1", "target=2"))
    for more in ((), ("--dry-run",)):
        ran = nad("bench", *where, *only, *more)
        assert ran.code == 2
        assert "own: stale" in ran.out
        assert "own/finetune" not in ran.out, "no number is said of it"
        assert "the zoo has own with other settings than this grid says\n--overwrite trains it anew" in ran.err
    assert nad("bench", *where, *only, "--overwrite").code == 0
    result = json.loads((tmp_path / "out" / "own" / "finetune@0.5-0.json").read_text())
    assert result["attack"].startswith("badnets:target=2,")
    assert not (tmp_path / "zoo" / ".own.abcd_123").exists()


def test_a_method_of_one_s_own_is_named_where_its_file_is_given(
    nad: "Nad", where: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(GRID + '[[method]]\nname = "own"\nmethod = "untouched"\n')
    (tmp_path / "own.py").write_text(OWN_METHOD)
    only = ("--only", "*/own@0.5-0")
    assert "unknown defense 'untouched'" in nad("bench", *where, *only).err
    code = ("--code", tmp_path / "own.py")
    try:
        assert "defense untouched: " in nad("list", "defenses", *code).out
        assert ": made" in nad("bench", *where, *only, *code, "--jobs", 2).out, "in a process of its own"
        assert ": done" in nad("bench", *where, *only, *code).out
        (tmp_path / "own.py").write_text(OWN_METHOD + "# edited\n")
        user_code.digest.cache_clear()  # as in a new process
        assert ": stale" in nad("bench", *where, *only, *code).out
    finally:
        DEFENSES._methods.pop("untouched", None)
        user_code.digest.cache_clear()


def instead(where: tuple[str, ...], option: str, value: Path) -> list[str]:
    """The same with another value of an option."""
    place = where.index(option) + 1
    return [*where[:place], str(value), *where[place + 1 :]]


def test_images_that_nobody_knows_are_said_once(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    ran = nad("bench", *instead(where, "--data", tmp_path), "--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert "there are no images 'tiny' in " in ran.err
    assert "give the folder that holds them by that name, --data DIR, or set NAD_DATA" in ran.err


def test_images_of_some_cells_alone_are_enough_for_those(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    one = '[[cell]]\nname = "{}"\ndata = "{}"\nmodel = "wrn-10-1"\n'
    (tmp_path / "mine.toml").write_text(one.format("lacking", "nowhere") + one.format("whole", "tiny"))
    ran = nad("bench", *where, "--dry-run")
    assert "whole: missing" in ran.out
    assert "lacking: failed (there are no images 'nowhere' in " in ran.out


def test_a_folder_that_cannot_be_written_to_is_said_once(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = nad("bench", *instead(where, "--out", tmp_path / "file" / "results"))
    assert ran.code == 2
    assert ran.out == ""
    assert "cannot write to --out" in ran.err
    assert "Not a directory; choose another folder" in ran.err


def test_a_dry_run_makes_nothing_and_says_how_long_it_takes(nad: "Nad", where: tuple[str, ...], tmp_path: Path) -> None:
    ran = nad("bench", *where, "--dry-run")
    assert (ran.code, ran.out.count(": missing")) == (0, 7), ran.err
    assert "computed on" not in ran.err
    assert not (tmp_path / "zoo").exists()
    assert nad("bench", *where, "--only", "*/clean@0.5-0,*/finetune@0.5-0").code == 0
    ran = nad("bench", *where, "--dry-run")
    assert ran.out.count(": missing") == 3
    assert "3 of 5 are missing; about " in ran.out
    assert len(list((tmp_path / "out" / "badnets-cifar10").iterdir())) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--jobs", "0"), "expected --jobs of at least 1, got 0"),
        (("--seeds", "0"), "expected --seeds of at least 1, got 0"),
        (("--code", "none.py"), "there is no file none.py"),
        (("--only", "nobody"), "no cell of"),
        (("--seed", "1"), "Unknown option: --seed"),
    ],
)
def test_what_cannot_be_asked_for(nad: "Nad", where: tuple[str, ...], more: tuple[str, ...], said: str) -> None:
    ran = nad("bench", *where, *more)
    assert ran.code == 2
    assert said in ran.err


def test_cells_that_are_made_again_are_missing_and_estimated(
    nad: "Nad", where: tuple[str, ...], tmp_path: Path
) -> None:
    only = ("--only", "*/clean@0.5-0,*/finetune@0.5-0")
    assert nad("bench", *where, *only).code == 0
    for result in (tmp_path / "out").glob("*/*.json"):
        stale = json.loads(result.read_text())
        stale["notes"]["fingerprint"] = "of other settings"
        result.write_text(json.dumps(stale))
    assert nad("bench", *where, *only, "--dry-run").out.count(": stale") == 2
    ran = nad("bench", *where, *only, "--dry-run", "--overwrite")
    assert ran.out.count(": missing") == 2
    assert "2 of 2 are missing; about " in ran.out, "as long as they took with the other settings"


def test_a_cluster_is_started_for_the_run_and_its_absence_told(
    nad: "Nad", where: tuple[str, ...], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    ran = nad("bench", *where, "--ray", "auto")
    assert (ran.code, ran.out) == (2, "")
    assert "--ray auto: " in ran.said
    assert ran.said.endswith("expected the address of a running cluster, auto or local\n")
    ran = nad("bench", *where, "--seeds", 1, "--ray", "local")
    assert ran.code == 0, ran.err
    assert ran.out.count(": made") == 5, "two networks, and three erasers on one of them"
    assert not ray.is_initialized(), "what was started for the run ends with it"
    alone = numbers(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert nad("bench", *where, "--seeds", 1).code == 0
    assert numbers(tmp_path / "out") == alone
