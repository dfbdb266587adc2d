"""The files in examples/ run and do what they say."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nad.attacks import ATTACKS
from nad.defenses import DEFENSES, Defense
from nad.errors import NadError
from nad.results import read_json

FOLDER = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    """Load an example by name; what it registers is gone after the test."""
    for registry in (ATTACKS, DEFENSES):
        monkeypatch.setattr(registry, "_methods", dict(registry._methods))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_own_model(example):
    outcome = example("own_model").main(96)
    assert [s.split(".")[0] for s in outcome.notes["stages"]] == ["stage1", "stage2", "stage3"]


def test_own_attack(example):
    metrics = example("own_attack").main(600, 6)
    assert metrics.asr.rate > 0.8, "a frame is easy to learn"


def test_own_defense(example):
    alone, as_teacher = example("own_defense").main(96)
    assert str(alone.method) == "head:lr=0.1"
    assert str(as_teacher.method.teacher) == "head"
    assert as_teacher.history[0]["attention_1"] >= 0


def test_own_defense_from_the_command_line(nad, victim, tiny, tmp_path):
    spec = f"{FOLDER / 'own_defense.py'}:head:epochs=1"
    how = ("--data", tiny, "--clean", 0.5, "--budget", 0)
    made = [("--method", spec), ("--method", f"nad:teacher=({spec}),lr=0.01,beta=1,epochs=1,batch=16")]
    line = ["purify", victim, *how, *made[0], *made[1], "--out", tmp_path / "out", "--device", "cpu"]
    whole = [sys.executable, "-m", "nad", *map(str, line)]  # a process of its own: a name is registered once
    ran = subprocess.run(whole, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "head:epochs=1" in ran.stdout
    assert read_json(tmp_path / "out" / "result.json")[0]["method"] == "head:epochs=1"


def test_a_file_may_not_name_code():
    with pytest.raises(NadError, match=r"own\.py: a specification that comes from a file may name no code"):
        Defense.parse("nad:teacher=(own.py:head)", trusted=False)
    with pytest.raises(NadError, match=r"there is no file own\.py"):
        Defense.parse("own.py:head")


def test_every_example_is_tested():
    assert {p.stem for p in FOLDER.glob("*.py")} == {"own_model", "own_attack", "own_defense"}
