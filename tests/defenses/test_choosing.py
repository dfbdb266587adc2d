"""The rules by which settings are chosen without the trigger, on sequences made by hand (B7, B8)."""

import copy
import logging

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.choosing import early_stop, folds, means, most_aggressive, over, right, shortfall, unharmful
from nad.defenses.scratch import Scratch
from nad.errors import DivergedError, NadError
from nad.runtime import Run


def answers(right: int, n: int = 100) -> torch.Tensor:
    return torch.arange(n) < right


def choose(rights: list[int], max_drop: float, given: int = 90, control: int | None = None, **how):
    tried = []

    def trial(setting: int):
        tried.append(setting)
        return answers(rights[setting]), {"note": setting}

    mildest = None if control is None else answers(control)
    chosen, note = most_aggressive(range(len(rights)), trial, answers(given), max_drop, control=mildest, **how)
    return chosen, note, tried


def test_the_most_aggressive_within_the_drop_and_not_the_most_accurate():
    chosen, note, _ = choose([92, 91, 88, 87, 70, 60], 0.03)
    assert chosen == 3
    assert [c["accepted"] for c in note["curve"]] == [True, True, True, True, False, False]
    assert [c["drop"] for c in note["curve"]][:2] == pytest.approx([-0.02, -0.01])
    assert "warning" not in note


def test_an_exact_drop_is_within():
    assert choose([90, 87, 50, 50], 0.03)[0] == 1


def test_one_rejection_may_be_noise_and_two_end_the_search():
    chosen, _, tried = choose([90, 80, 89, 80, 80, 90], 0.03)
    assert chosen == 2
    assert tried == [0, 1, 2, 3, 4]


def test_nothing_fits_takes_the_gentlest_with_a_warning():
    chosen, note, tried = choose([80, 70, 60, 50], 0.03)
    assert (chosen, tried) == (0, [0, 1])
    assert "no setting keeps the held-out drop within 3 points" in note["warning"]


def test_everything_fits_says_that_the_list_may_end_too_early():
    chosen, note, _ = choose([90, 90, 90], 0.03)
    assert chosen == 2
    assert "most aggressive setting was accepted" in note["warning"]


def test_downwards_the_first_that_fits_ends_the_search():
    chosen, note, tried = choose([90, 88, 70], 0.03, downwards=True)
    assert (chosen, tried) == (1, [2, 1])
    assert "warning" not in note, "nothing beyond the list is asked for"
    assert choose([90, 88, 89], 0.03, downwards=True)[2] == [2]
    chosen, note, tried = choose([80, 70, 60, 50], 0.03, downwards=True)
    assert (chosen, tried) == (0, [3, 2, 1, 0]), "patience is not for this order"
    assert "the gentlest was taken" in note["warning"]


def test_what_the_mildest_training_forgets_is_not_held_against_a_setting():
    rights = [84, 82, 80, 70, 70]
    assert choose(rights, 0.03)[0] == 0, "compared with the network alone nothing fits"
    chosen, note, _ = choose(rights, 0.03, control=84)
    assert chosen == 1
    assert (note["reference_accuracy"], note["given_accuracy"], note["control_accuracy"]) == (0.84, 0.9, 0.84)
    assert note["curve"][1]["drop"] == pytest.approx(0.02)
    assert "training alone costs 6.0 points on the images it held out" in note["warning"]


def test_training_that_gains_makes_the_choice_no_stricter():
    chosen, note, _ = choose([95, 88, 80, 80], 0.03, control=95)
    assert (chosen, note["reference_accuracy"]) == (1, 0.9)
    assert "warning" not in note


def test_the_paired_test_allows_what_noise_explains():
    reference = answers(90)
    slightly = reference.clone()
    slightly[:5] = False  # 5 lost, none won: drop 5 %, standard error 2.2 %
    assert shortfall(reference, slightly, 0.03, paired=False)
    assert not shortfall(reference, slightly, 0.03, paired=True)
    clearly = reference.clone()
    clearly[:20] = False
    assert shortfall(reference, clearly, 0.03, paired=True)


def test_more_disagreement_means_more_noise():
    reference, noisy = answers(50), torch.zeros(100, dtype=torch.bool)
    noisy[:20], noisy[50:74] = True, True  # 30 lost, 24 won: the same drop of 6 points
    calm = answers(44)
    assert shortfall(reference, calm, 0.02, paired=True)
    assert not shortfall(reference, noisy, 0.02, paired=True)


def test_a_training_that_diverges_is_one_that_costs_everything():
    parts = folds(images(20, 2), 0.2, Run(), 2)

    def trained(fold):
        if fold is parts[0]:
            raise DivergedError("the loss became nan")
        return fold.held.labels >= 0

    found = over(parts, Run(), "lr", "0.1", trained)
    assert found.tolist() == [False] * len(parts[0].held) + [True] * len(parts[1].held)
    assert means([{"loss": 2.0}, {"loss": 4.0}], parts) == {"loss": 3.0}
    assert means([{"loss": 2.0}], parts) == {"loss": 2.0, "diverged": True}
    assert means([], parts) == {"diverged": True}


def test_a_control_that_diverged_is_not_compared_with():
    chosen, note, _ = choose([50, 40], 0.03, control=0)
    assert (chosen, note["reference_accuracy"]) == (0, 0.9)
    assert "no setting keeps" in note["warning"]


def test_who_follows_hears_which_part_is_tried():
    heard = []
    run = Run(progress=lambda *said: heard.append(said))
    parts = folds(images(20, 2), 0.2, run, 2)
    found = over(parts, run, "lr", "0.1", lambda fold: fold.held.labels == 0)
    assert found.tolist() == [label == 0 for fold in parts for label in fold.held.labels.tolist()]
    assert heard == [
        ("choosing lr", 0, 2, "0.1, part 1 of 2"),
        ("choosing lr", 1, 2, "0.1, part 2 of 2"),
        ("choosing lr", 2, 2, ""),
    ]


@pytest.mark.parametrize(("least", "level"), [(0.0, logging.INFO), (60.0, logging.DEBUG)])
def test_what_a_setting_gave_is_news_where_it_took_long(caplog, monkeypatch, least, level):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("nad.defenses.choosing.LONG", least)
    over(folds(images(20, 2), 0.2, Run(), 2), Run(), "lr", "0.1", lambda fold: fold.held.labels == 0)
    assert caplog.record_tuples == [("nad.defenses.choosing", level, "lr, 0.1: 10 of 20 held-out images right")]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.47], (False, 1)),
        ([0.47, 0.78], (False, 2)),
        ([0.47, 0.78, 0.81], (False, 3)),
        ([0.47, 0.78, 0.81, 0.812, 0.813], (True, 3)),
        ([0.47, 0.60, 0.70, 0.80, 0.803, 0.80], (True, 4)),
        ([0.9, 0.2, 0.2], (False, 3)),  # a collapse at first is no reason to stop
        ([0.80, 0.60, 0.62, 0.75, 0.79, 0.795, 0.79], (False, 5)),
        ([0.85, 0.84, 0.83, 0.82, 0.81], (True, 3)),
    ],
)
def test_early_stopping_takes_the_earliest_epoch_within_one_standard_error(accuracies, expected):
    assert early_stop(accuracies, held=500) == expected


def images(n: int, classes: int = 4) -> ImageSet:
    pixels = (
        torch.arange(n)[:, None, None, None].expand(n, 3, 4, 4) // torch.tensor([1, 256, 65536])[:, None, None] % 256
    )
    return ImageSet(pixels.to(torch.uint8), torch.arange(n) % classes, tuple("abcdefgh"[:classes]))


def test_copies_of_an_image_are_not_held_out_of_a_training_that_has_it():
    for n in (40, 1200):
        once = images(n)
        for fold in folds(once.subset(torch.arange(n).repeat(2)), 0.2, Run()):
            assert not set(fold.kept.digests()) & set(fold.held.digests())
            assert len(fold.kept) + len(fold.held) == 2 * n
    same = once.subset(torch.zeros(10, dtype=torch.int64))
    with pytest.raises(NadError, match="a class with at least 2 different clean images"):
        folds(same, 0.2, Run())


def test_few_images_are_held_out_in_five_folds_and_many_once():
    few, many = folds(images(40), 0.2, Run()), folds(images(1200), 0.2, Run())
    assert (len(few), len(many)) == (5, 1)
    assert sum(len(f.held) for f in few) == 40
    assert all(len(f.kept) + len(f.held) == 40 for f in few)
    assert len(many[0].held) == 240
    for fold in [*few, *many]:
        assert min(fold.kept.counts()) > 0
        assert min(fold.held.counts()) > 0


def test_an_image_that_is_alone_in_its_class_is_trained_on_and_never_held_out():
    lonely = images(41).subset(torch.tensor([0, 1, 2, 3, 4, 5, 6]))  # class 3 has one
    parts = folds(lonely, 0.2, Run())
    assert [len(fold.held) for fold in parts] == [2, 1, 1, 1, 1], "six images, dealt out evenly"
    assert all(fold.kept.counts()[3] == 1 and min(fold.kept.counts()) > 0 for fold in parts)


def test_there_is_nothing_to_hold_out_where_every_image_is_alone():
    with pytest.raises(
        NadError, match="choosing needs a class with at least 2 different clean images; add images, or set"
    ):
        folds(images(4), 0.2, Run())


def test_no_fold_is_empty_and_none_takes_all_of_a_class():
    two = images(43).subset(torch.arange(8))  # two of each of four classes
    parts = folds(two, 0.2, Run())
    assert [len(fold.held) for fold in parts] == [2, 2, 2, 1, 1]
    assert all(min(fold.kept.counts()) > 0 for fold in parts)
    assert len(folds(images(43).subset(torch.tensor([0, 4, 1])), 0.2, Run())) == 2, "no more than can be held out"


def test_a_choice_that_no_record_would_show_is_refused():
    with pytest.raises(AssertionError, match="makes a choice that its `judges` denies"):
        Scratch().held_out(images(20), Run())


def test_what_may_be_lost_is_no_harm():
    assert unharmful(lambda one: answers(60), answers(100), 0.4) == (1, None)


@pytest.mark.parametrize(
    ("kept", "factor", "tried"),
    [
        ([75], 1, 1),  # three quarters of 100 are left: it forgets, and does no harm
        ([74, 76, 79], 0.3, 3),
        ([20, 50, 88, 92], 0.1, 4),
        ([20, 80, 90, 94], 0.1, 4),  # 0.3 would leave enough, but a tenth keeps ten points more
        ([5, 5, 5, 5, 5, 5, 5], 0.001, 7),
        ([5, 5, 5, 5, 5, 5, 99], 0.001, 7),
    ],
)
def test_rates_get_smaller_until_the_mildest_training_does_no_harm(kept, factor, tried):
    rates = []

    def trial(one: float) -> torch.Tensor:
        rates.append(one)
        return answers(kept[len(rates) - 1])

    found, note = unharmful(trial, answers(100), 0.08)
    assert (found, len(rates)) == (factor, tried)
    assert rates == [1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001][:tried]
    assert note is None if factor == 1 else note["kept"] == [list(one) for one in zip(rates, [k / 100 for k in kept])]


class Steep(nn.Module):
    """A network with a momentum like MobileNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(10 * self.layer(10 * x.mean((2, 3))))


def coloured(count: int = 160) -> ImageSet:
    """One colour a class, with some noise."""
    draws, labels = torch.Generator().manual_seed(3), torch.arange(count) % 4
    colours = torch.tensor([[200, 40, 40], [40, 200, 40], [40, 40, 200], [160, 160, 40]])
    noise = torch.randint(-40, 41, (count, 3, 4, 4), generator=draws)
    return ImageSet((colours[labels][:, :, None, None] + noise).clamp(0, 255).byte(), labels, tuple("rgby"))


def test_statistics_of_batchnorm_follow_a_short_training_whatever_the_networks_momentum():
    torch.manual_seed(0)
    slow, images = Steep(), coloured()
    usual = copy.deepcopy(slow)
    usual.norm.momentum = 0.1
    made = [
        DEFENSES.create("finetune:lr=0.001,epochs=2,batch=16")(one, images, Run(seed=1)).model for one in (slow, usual)
    ]
    assert [one.norm.momentum for one in made] == [0.01, 0.1], "each keeps its own"
    assert torch.equal(made[0].norm.running_var, made[1].norm.running_var)
    assert not torch.allclose(made[0].norm.running_mean, slow.norm.running_mean, atol=0.1)


class Steeper(nn.Module):
    """Whose usual learning rates are a thousandth of those of others, and less."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(3, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 800 * self.last(torch.relu(self.layer(20 * x.mean((2, 3)))))


def test_a_rate_is_chosen_among_those_that_do_no_harm():
    torch.manual_seed(0)
    images, run = coloured(), Run(seed=1)
    given = DEFENSES.create("finetune:lr=4e-7,epochs=60,batch=16")(Steeper(), images, run).model
    assert right(given, [images], run).double().mean() > 0.95
    outcome = DEFENSES.create("finetune:epochs=2,batch=16")(given, images, run)
    note = outcome.notes["lr"]
    factor = note["scale"]["chosen"]
    assert factor < 1
    assert note["scale"]["kept"][0][1] < 0.75, "what the mildest of the usual rates leaves"
    assert [point["setting"] for point in note["curve"]][:2] == pytest.approx([0.01 * factor, 0.02 * factor])
    assert outcome.method.lr == note["chosen"]
    assert right(outcome.model, [images], run).double().mean() > 0.9
