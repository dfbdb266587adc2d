"""The imperfect sets that benchmarks/imperfect.py makes are what they are called."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nad.attacks import BadNets
from nad.data.images import ImageSet
from nad.data.synthetic import signs
from nad.models.checkpoints import Loaded
from nad.runtime import Run

RUN = Run(seed=1)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "imperfect.py"
    spec = importlib.util.spec_from_file_location("imperfect", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pool() -> ImageSet:
    return signs("train", 1500, size=16)


@pytest.fixture
def made(script, pool, monkeypatch):
    def make(condition: str) -> ImageSet:
        monkeypatch.setattr(script, "planted", lambda loaded: BadNets(target=3, rate=0.5))
        return script.CONDITIONS[condition](pool, Loaded(torch.nn.Identity(), "none", 12, None, {}), RUN)

    return make


def test_triggered_pictures_have_the_attacks_label(made):
    clean, poisoned = made("clean"), made("triggered-5")
    assert len(clean) == len(poisoned) == 1000
    assert poisoned.poisoned is None, "nothing says which they are"
    changed = (clean.pixels != poisoned.pixels).flatten(1).any(1)
    assert 45 <= int(changed.sum()) <= 50
    assert poisoned.labels[changed].unique().tolist() == [3]
    assert torch.equal(poisoned.labels[~changed], clean.labels[~changed])


def test_few_pictures_are_spread_over_the_classes(made):
    assert len(made("pictures-10")) == 10
    assert max(made("pictures-25").counts()) - min(made("pictures-25").counts()) <= 1


def test_a_long_tail_keeps_the_number_and_spreads_the_classes(script, made, monkeypatch):
    monkeypatch.setattr(script, "PICTURES", 400)
    counts = sorted(made("long-tail-10").counts())
    assert abs(sum(counts) - 400) < 10
    assert 8 <= counts[-1] / counts[0] <= 12


@pytest.mark.parametrize("condition", ["jpeg-10", "dark", "coarse"])
def test_shifted_pictures_are_the_same_ones_changed(made, condition):
    clean, shifted = made("clean"), made(condition)
    assert torch.equal(shifted.labels, clean.labels)
    assert shifted.pixels.dtype == torch.uint8
    apart = (shifted.pixels.float() - clean.pixels.float()).abs().mean()
    assert 1 < apart < 80
