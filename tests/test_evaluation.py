"""Metrics on hand-computed predictions and their invariants (G9)."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nad.attacks import BadNets
from nad.attacks.custom import Custom
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.evaluation import evaluate, evaluated_once, measured, reactivated
from nad.results import Count, Metrics
from nad.runtime import Run

LABELS = torch.tensor([0, 0, 1, 2, 3, 1])
CLEAN = torch.tensor([0, 1, 1, 2, 0, 1])
TRIGGERED = torch.tensor([0, 0, 0, 2, 0, 1])


def test_all_to_one():
    metrics = measured(LABELS, CLEAN, TRIGGERED[2:], BadNets(target=0), classes=4)
    assert metrics == Metrics(acc=Count(4, 6), acc_nt=Count(3, 4), asr=Count(2, 4), ra=Count(2, 4))


def test_all_to_all_is_over_all_images():
    metrics = measured(LABELS, CLEAN, TRIGGERED, BadNets(labels="all_to_all"), classes=4)
    by_class = (Count(0, 2), Count(0, 2), Count(0, 1), Count(1, 1))
    assert metrics == Metrics(acc=Count(4, 6), acc_nt=None, asr=Count(1, 6), ra=Count(4, 6), asr_by_class=by_class)
    assert metrics.to_json()["asr_by_class"] == [0, 0, 0, 1]


def test_a_class_without_test_images_has_no_rate():
    metrics = measured(LABELS, CLEAN, TRIGGERED, BadNets(labels="all_to_all"), classes=5)
    assert metrics.to_json()["asr_by_class"][4] is None


def test_a_triggered_set_with_the_targets_own_images_is_refused():
    with pytest.raises(NadError, match="expected predictions for 4 triggered images, got 6"):
        measured(LABELS, CLEAN, TRIGGERED, BadNets(target=0), classes=4)


def test_without_an_attack_only_accuracy_is_known():
    assert measured(LABELS, CLEAN).to_json() == {
        "acc": 4 / 6,
        "acc_nt": None,
        "asr": None,
        "ra": None,
        "counts": {"acc": [4, 6], "acc_nt": None, "asr": None, "ra": None},
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), labels=st.sampled_from(["all_to_one", "all_to_all"]))
def test_success_and_recovery_exclude_each_other_and_json_round_trips(seed, labels):
    generator = torch.Generator().manual_seed(seed)
    truth, clean = (torch.randint(0, 4, (50,), generator=generator) for _ in range(2))
    attack = BadNets(target=2, labels=labels)
    triggered = torch.randint(0, 4, (int(attack.evaluated(truth).sum()),), generator=generator)
    metrics = measured(truth, clean, triggered, attack, classes=4)
    assert metrics.asr.hits + metrics.ra.hits <= metrics.asr.of
    assert Metrics.from_json(metrics.to_json()) == metrics


class Constant(nn.Module):
    """Answers one class, whatever it sees."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = nn.Parameter(nn.functional.one_hot(torch.tensor(answer), 4).float())

    def forward(self, x):
        return self.answer.expand(len(x), 4)


class Bright(nn.Module):
    """Answers 1 for images whose bottom-right pixel is white, else 3: it has a backdoor for class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        white = (x[:, :, -1, -1].mean(1) > 0.99).float() * self.scale
        return torch.stack([0 * white, white, 0 * white, 1 - white], 1)


@pytest.fixture
def test_set() -> ImageSet:
    pixels = torch.randint(0, 200, (600, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(600) % 4, tuple("abcd"))


def test_a_network_that_always_answers_the_target(test_set):
    metrics = evaluate(Constant(2), test_set, BadNets(target=2))
    assert (metrics.asr, metrics.ra) == (Count(450, 450), Count(0, 450))
    assert (metrics.acc, metrics.acc_nt) == (Count(150, 600), Count(0, 450))


def test_a_planted_answer_is_found_with_its_trigger_only(test_set):
    assert evaluate(Bright(), test_set, BadNets(target=1)).asr == Count(450, 450)
    elsewhere = evaluate(Bright(), test_set, BadNets(target=1, position="top-left"))
    assert elsewhere.asr == Count(0, 450)
    assert elsewhere.ra == Count(150, 450)


def test_sets_decoded_on_demand_give_the_same_counts(test_set):
    class Lazy:
        shape = test_set.pixels.shape

        def __getitem__(self, indices):
            return test_set.pixels[indices]

    lazy = ImageSet(Lazy(), test_set.labels, test_set.classes)
    run = Run(precision="fp32")
    assert evaluate(Bright(), lazy, BadNets(target=1), run) == evaluate(Bright(), test_set, BadNets(target=1), run)


def test_a_target_that_the_data_does_not_have_is_refused(test_set):
    with pytest.raises(NadError, match=r"badnets: expected target in 0\.\.3, got 7"):
        evaluate(Constant(0), test_set, BadNets(target=7))


def test_a_dormant_backdoor_comes_back_and_one_that_is_not_there_does_not(test_set):
    dormant = Bright()
    dormant.scale.data.fill_(0.49)  # a white corner is worth 0.49, all other answers 0.51
    before, attack, run = dormant.scale.clone(), BadNets(target=1, low=255), Run(precision="fp32", device="cpu")
    assert evaluate(dormant, test_set, attack, run).asr == Count(0, 450)
    assert reactivated(dormant, test_set, test_set, attack, run).asr == Count(450, 450)
    assert torch.equal(dormant.scale, before), "the given network is left as it is"
    never = Bright()
    never.scale.data.fill_(-4)
    assert reactivated(never, test_set, test_set, attack, run).asr == Count(0, 450)


def test_only_a_few_images_are_poisoned_for_reactivation(test_set, monkeypatch):
    seen = []

    def watched(model, images, *how, **named):
        seen.append((images.pixels != test_set.pixels).flatten(1).any(1))
        seen.append(images.labels != test_set.labels)

    monkeypatch.setattr("nad.evaluation.fit", watched)
    attack = BadNets(target=1)
    reactivated(Bright(), test_set, test_set, attack, Run(precision="fp32", device="cpu"), count=7)
    changed, relabelled = seen
    assert int(changed.sum()) == 7
    assert torch.equal(changed, relabelled), "none of the target class, and all of them answer it"


def test_an_evaluation_is_kept_with_all_that_it_depends_on(test_set, tmp_path, monkeypatch):
    run, attack, model = Run(precision="fp32", device="cpu", keep=tmp_path), BadNets(target=1), Bright()
    first = evaluated_once(model, test_set, attack, run)
    assert first == evaluate(model, test_set, attack, run)
    seen = []
    monkeypatch.setattr("nad.evaluation.evaluate", lambda *given: seen.append(given) or first)
    assert evaluated_once(model, test_set, attack, replace(run, seed=5)) == first
    assert not seen
    changed = Bright()
    changed.scale.data.fill_(0.9)
    fitted = replace(attack, tensors={"pattern": torch.zeros(2)})
    others = [
        (changed, test_set, attack, run),
        (model, test_set.subset(torch.arange(500)), attack, run),
        (model, test_set, BadNets(target=2), run),
        (model, test_set, fitted, run),
        (model, test_set, replace(fitted, tensors={"pattern": torch.ones(2)}), run),
        (model, test_set, None, run),
        (model, test_set, attack, replace(run, precision="bf16")),
    ]
    for one in others:
        evaluated_once(*one)
    assert len(seen) == len(others)
    for _ in range(2):
        evaluated_once(model, test_set, Custom(call=lambda pixels: pixels), run)
    assert len(seen) == len(others) + 2, "what does not speak for itself is never kept"
    for path in (tmp_path / "evaluated").glob("*/record.json"):
        path.write_text("{")
    evaluated_once(model, test_set, attack, run)
    assert len(seen) == len(others) + 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_network_of_another_precision_is_evaluated_as_it_is(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4)).to(dtype)
    same = copy.deepcopy(net).float()
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    test = ImageSet(pixels, torch.arange(40) % 4, tuple("abcd"))
    attack, run = BadNets(target=1), Run(precision="fp32")
    assert evaluate(net, test, attack, run) == evaluate(same, test, attack, run)
    assert reactivated(net, test, test, attack, run) == reactivated(same, test, test, attack, run)
    assert next(net.parameters()).dtype == dtype
