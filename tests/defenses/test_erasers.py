"""Every eraser removes an easy backdoor from a small network on the embedded images."""

import pytest
import torch
from torch import nn

from nad.attacks import ATTACKS
from nad.data import sources
from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.evaluation import evaluate
from nad.models.create import create
from nad.oracle import Oracle
from nad.runtime import Run
from nad.training import Recipe, fit

RUN = Run(seed=0, device="cpu", precision="fp32")
ATTACK = ATTACKS.create("badnets:rate=0.25,pattern=square,size=4")
TEACHER = "teacher=(finetune:lr=0.1,epochs=5)"
SETTINGS = {  # short; what is chosen on held-out images is chosen once
    "anp": "anp:steps=60,folds=1",
    "chain": "chain:first=(clp:u=3),then=(finetune:lr=0.1,epochs=5)",
    "clp": "clp:u=1.4",
    "cutout": "cutout:lr=0.2,epochs=10",
    "fine-pruning": "fine-pruning:ratio=0.5,lr=0.05,epochs=3",
    "finetune": "finetune:lr=0.1,epochs=5",
    "fst": "fst:epochs=6,lr=0.05",
    "ft-sam": "ft-sam:epochs=5,lr=0.05",
    "i-bau": "i-bau:epochs=12,batch=64,portion=0.1,fixed_point=2",
    "kd": f"kd:{TEACHER},epochs=5,lr=0.02",
    "mcr": "mcr:epochs=10,t=0.5,lr=0.2",
    "mesa": "mesa:generator_epochs=10,levels=0.9,lr=0.05,portion=0.1,epochs=5,size=4",
    "mixup": "mixup:lr=0.2,epochs=15",
    "nad": f"nad:{TEACHER},epochs=5,lr=0.02,beta=5",
    "nad-sau": "nad-sau:teacher=(sau:epochs=5,lr=0.05),epochs=3",
    "neural-cleanse": "neural-cleanse:inversion_epochs=20,inversion_images=96,lr=0.05,epochs=6",
    "rnp": "rnp:folds=1,epochs=3,max_drop=0.15",
    "sau": "sau:epochs=5,lr=0.05",
    "scratch": "scratch:epochs=15,lr=0.1",
}


def few(images: ImageSet) -> ImageSet:
    rows = (images.labels < 4).nonzero().flatten()
    return ImageSet(images.pixels[rows], images.labels[rows], images.classes[:4])


@pytest.fixture(scope="module")
def signs() -> tuple[ImageSet, ImageSet]:
    dataset = sources.load("signs")
    return few(dataset.train.decoded()), few(dataset.test.decoded())


@pytest.fixture(scope="module")
def victim(signs) -> nn.Module:
    model = create("wrn-10-1", 4)
    poisoned = ATTACK.poison(signs[0], RUN)
    fit(model, poisoned, Recipe(epochs=12, lr=0.2, schedule="onecycle"), RUN)
    metrics = evaluate(model, signs[1], ATTACK, RUN)
    assert metrics.acc.rate > 0.9
    assert metrics.asr.rate > 0.95
    return model


@pytest.fixture(scope="module")
def clean(signs) -> ImageSet:
    rows = torch.randperm(len(signs[0]), generator=RUN.generator("clean"))[:320]
    return signs[0].subset(rows)


def test_there_is_a_setting_for_every_eraser():
    assert sorted(SETTINGS) == list(DEFENSES)


@pytest.mark.parametrize("name", list(DEFENSES))
def test_an_easy_backdoor_is_removed(name, victim, clean, signs):
    outcome = DEFENSES.create(SETTINGS[name])(victim, clean, RUN)
    metrics = evaluate(outcome.model, signs[1], ATTACK, RUN)
    assert metrics.asr.rate < 0.3
    assert metrics.acc.rate > 0.7


def test_who_knows_the_trigger_removes_it(victim, clean, signs):
    outcome = Oracle(attack=ATTACK, portion=0.1, lr=0.02, epochs=6)(victim, clean, RUN)
    metrics = evaluate(outcome.model, signs[1], ATTACK, RUN)
    assert metrics.asr.rate < 0.05
    assert metrics.acc.rate > 0.9


def test_pruning_by_a_found_trigger_stops_when_it_leads_nowhere(victim, clean):
    spec = "neural-cleanse:mode=prune,inversion_epochs=20,inversion_images=96,left=0.1"
    outcome = DEFENSES.create(spec)(victim, clean, RUN)
    assert 0 < outcome.notes["pruned"] < 64
    assert int((outcome.model.fc.weight == 0).all(0).sum()) == outcome.notes["pruned"]
