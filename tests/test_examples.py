"""The files in examples/ run and do what they say."""

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import nad as library
from nad.attacks import ATTACKS
from nad.defenses import DEFENSES, Defense
from nad.errors import NadError
from nad.models.checkpoints import load, save
from nad.models.normalize import unwrap
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
    assert "head" in ran.stdout
    assert read_json(tmp_path / "out" / "result.json")[0]["method"] == "head:epochs=1"


def test_a_file_may_not_name_code():
    with pytest.raises(NadError, match=r"own\.py: a specification .* may name no code; for a grid, pass it as --code"):
        Defense.parse("nad:teacher=(own.py:head)", trusted=False)
    with pytest.raises(NadError, match=r"there is no file own\.py"):
        Defense.parse("own.py:head")


def test_every_example_is_tested():
    assert {p.stem for p in FOLDER.glob("*.py")} == {"own_model", "own_attack", "own_defense"}


def test_the_program_of_the_readme(victim, unsplit, tmp_path, monkeypatch, capsys):
    """With class folders, and a network whose card has the same classes in another order."""
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    loaded = load(victim)
    last = [key for key, value in loaded.model.state_dict().items() if value.shape[:1] == (4,)][-2:]
    weights = loaded.model.state_dict()
    weights |= {key: weights[key].flip(0) for key in last}
    unwrap(loaded.model).load_state_dict({key: weights[key] for key in unwrap(loaded.model).state_dict()})
    save(tmp_path, loaded.model, replace(loaded.card, classes=loaded.names[::-1], attack=None), "pt")
    shutil.copytree(unsplit, tmp_path / "clean-pictures")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    changed = program.replace('"wrn-16-1"', '"wrn-10-1"').replace(
        "network.model, images)", 'network.model, images, "clp")'
    )
    exec(changed, found)
    assert "labels are put into the network's order of classes, by name" in capsys.readouterr().out
    assert library.evaluate(found["outcome"].model, found["images"]).acc.rate > 0.9
    assert set(torch.load(tmp_path / "clean.pt")) == set(unwrap(loaded.model).state_dict())
    with pytest.raises(NadError, match="with its classes in another order than theirs"):
        library.purify(found["network"].model, library.load("clean-pictures").train)
