"""The files in examples/ run and do what they say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from nad.attacks import ATTACKS
from nad.defenses import DEFENSES

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


def test_every_example_is_tested():
    assert {p.stem for p in FOLDER.glob("*.py")} == {"own_model", "own_attack", "own_defense"}
