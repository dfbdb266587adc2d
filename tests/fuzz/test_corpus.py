"""What the fuzzer found, and one file for each way in which it was refused, once more: in seconds, on every change."""

import importlib.util
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent
CORPUS = {target: sorted((FOLDER / "corpus" / target).iterdir()) for target in ("checkpoints", "pictures")}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module of that name, at work in a folder of its own."""
    spec = importlib.util.spec_from_file_location("targets", FOLDER / "targets.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["targets"] = module  # dataclasses and pickle look a class up there
    spec.loader.exec_module(module)
    before, threads = Path.cwd(), module.torch.get_num_threads()
    module.prepare(tmp_path_factory.mktemp("fuzz"))
    yield module
    os.chdir(before)
    module.torch.set_num_threads(threads)
    del sys.modules["targets"]


def test_the_corpus_is_there_and_small() -> None:
    files = [path for paths in CORPUS.values() for path in paths]
    assert min(map(len, CORPUS.values())) >= 20
    assert sum(path.stat().st_size for path in files) < 300_000


@pytest.mark.parametrize(
    ("target", "path"),
    [(target, path) for target, paths in CORPUS.items() for path in paths],
    ids=lambda given: getattr(given, "stem", given),
)
def test_an_input_is_taken_or_refused(targets: ModuleType, target: str, path: Path) -> None:
    began = time.monotonic()
    outcome = targets.attempt(target, path.suffix, path.read_bytes())
    assert not outcome.startswith("FINDING"), outcome
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("target", list(CORPUS))
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about quantised tensors
def test_the_seeds_are_taken_or_refused_and_most_are_taken(targets: ModuleType, target: str) -> None:
    outcomes = [targets.attempt(target, *seed) for seed in targets.SEEDS[target]()]
    assert not [outcome for outcome in outcomes if outcome.startswith("FINDING")]
    assert 0.4 < outcomes.count("good") / len(outcomes) < 1


def test_code_that_ran_would_be_seen(targets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.foreign, "read", lambda path: pickle.loads(path.read_bytes()))
    hostile = pickle.dumps({"hook": targets.Hostile()})
    assert targets.attempt("checkpoints", ".pt", hostile) == "FINDING: the file made a folder"
    assert not Path(targets.RAN).exists()
