"""Fine-tuning in its forms: last layer, smoothed, mixed up, with a shifted classifier; and logits distilled."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses import DEFENSES, mesa
from nad.defenses.choosing import folds, right
from nad.defenses.finetune import RATES
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run
from nad.seeding import derive
from nad.training import fit

RUN = Run(seed=3, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))


@pytest.fixture
def model() -> nn.Module:
    return create("wrn-10-1", 4)


def purified(text: str, model: nn.Module, images: ImageSet) -> nn.Module:
    return DEFENSES.create(text)(model, images, RUN).model


def test_a_rate_that_diverges_is_one_that_costs_too_much(images, monkeypatch):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 4))
    monkeypatch.setattr("nad.defenses.finetune.RATES", (1e-4, 1e30))
    outcome = DEFENSES.create("finetune:lr=auto,epochs=2,batch=16,folds=1")(plain, images, RUN)
    assert outcome.method.lr == 1e-4
    assert [one.get("diverged") for one in outcome.notes["lr"]["curve"]] == [None, True]
    with pytest.raises(NadError, match=r"the loss became (nan|inf) in epoch 1; lower lr or beta"):
        purified("finetune:lr=1e30,epochs=2,batch=16", plain, images)


def test_the_last_layer_alone_is_trained(model, images):
    before = model.state_dict()
    after = purified("finetune:layers=last,lr=0.1,epochs=2,batch=16", model, images).state_dict()
    assert {k for k, v in after.items() if not torch.equal(v, before[k])} == {"fc.weight", "fc.bias"}


def test_smoothing_and_flatness_change_the_result_and_their_absence_does_not(model, images):
    plain = "finetune:lr=0.1,epochs=2,batch=16"
    weights = {
        text: purified(text, model, images).fc.weight
        for text in (plain, f"{plain},smoothing=0", f"{plain},rho=0", f"{plain},smoothing=0.1", f"{plain},rho=1")
    }
    base, *others = weights.values()
    assert [torch.equal(base, other) for other in others] == [True, True, False, False]


def test_ft_sam_is_fine_tuning_with_both(model, images):
    short = "lr=0.05,epochs=2,batch=16"
    one = purified(f"ft-sam:{short}", model, images).state_dict()
    two = purified(f"finetune:{short},schedule=cosine,rho=2,smoothing=0.1", model, images).state_dict()
    assert all(torch.equal(v, two[k]) for k, v in one.items())


def test_cutout_is_fine_tuning_with_a_hole(model, images):
    one = purified("cutout:lr=0.05,epochs=1,batch=16", model, images).fc.weight
    assert torch.equal(one, purified("finetune:lr=0.05,epochs=1,batch=16,augment=cutout3", model, images).fc.weight)


def test_mixups_loss_by_hand(model):
    method = DEFENSES.create("mixup:alpha=0.4,lr=0.1")
    x, y = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    step = method.step(model.eval(), RUN)
    seen = []
    with torch.no_grad():
        loss = step(lambda mixed: seen.append(mixed) or model(mixed), x, y)["loss"]
        weight = np.random.default_rng(derive(RUN.seed, "mixup")).beta(0.4, 0.4)
        pairs = torch.randperm(8, generator=RUN.generator("pairs"))
        assert torch.allclose(seen[0], weight * x + (1 - weight) * x[pairs])
        logits = model(seen[0]).log_softmax(1)
    rows = torch.arange(8)
    expected = -(weight * logits[rows, y] + (1 - weight) * logits[rows, y[pairs]]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_fst_keeps_the_classifiers_norm_and_turns_it_away(model, images):
    given = model.fc.weight.detach().clone()
    outcome = DEFENSES.create("fst:alpha=0.5,lr=0.1,epochs=8,batch=16")(model, images, RUN)
    found = outcome.model.fc.weight
    assert found.norm().item() == pytest.approx(given.norm().item(), rel=1e-5)
    free = DEFENSES.create("fst:alpha=0,lr=0.1,epochs=8,batch=16")(model, images, RUN).model.fc.weight
    assert F.cosine_similarity(found.flatten(), given.flatten(), 0) < F.cosine_similarity(
        free.flatten(), given.flatten(), 0
    )
    assert outcome.history[-1]["inner"] < outcome.history[0]["inner"]


def test_fsts_classifier_has_the_same_norm_in_every_step_and_at_every_look(model, images):
    norms, given = [], model.fc.weight.norm().item()

    class Watched(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            norms.append(self.weight.norm().item())
            return super().forward(x)

    model.fc.__class__ = Watched
    method = DEFENSES.create("fst:lr=0.1,epochs=3,batch=16,augment=none")
    method.trained(model, images, RUN, lambda epoch, net, record: norms.append(net.fc.weight.norm().item()))
    assert len(norms) == 3 * 4 + 3
    assert norms == pytest.approx([given] * 15, rel=1e-5)


def test_fst_chooses_alpha_as_the_others_choose_their_rate(model, images):
    outcome = DEFENSES.create("fst:alpha=auto,max_drop=0.99,epochs=1,batch=16,folds=1")(model, images, RUN)
    curve = outcome.notes["alpha"]["curve"]
    assert [entry["setting"] for entry in curve] == [0.001, 0.003, 0.01, 0.03, 0.1, 0.2]
    assert outcome.method.alpha == outcome.notes["alpha"]["chosen"] == 0.2
    assert "lr" not in outcome.notes
    given = DEFENSES.create("fst:alpha=0.2,max_drop=0.99,epochs=1,batch=16,folds=1")(model, images, RUN)
    assert torch.equal(outcome.model.fc.weight, given.model.fc.weight)
    with pytest.raises(NadError, match="fst chooses alpha or its learning rate, not both"):
        DEFENSES.create("fst:alpha=auto,lr=auto")


def test_fst_starts_with_a_classifier_drawn_anew(model, images, monkeypatch):
    seen = []
    monkeypatch.setattr("nad.defenses.fst.fit", lambda net, *a: seen.append(net.fc.weight.detach().clone()) or [])
    DEFENSES.create("fst")(model, images, RUN)
    assert seen[0].abs().max() <= 1 / 8
    assert seen[0].abs().max() > 0.9 / 8
    assert not torch.allclose(seen[0], model.fc.weight)


def test_logits_are_distilled_by_the_formula(model, images, monkeypatch):
    steps = []
    monkeypatch.setattr("nad.defenses.kd.fit", lambda net, im, how, run, step, **k: steps.append((net, step)) or [])
    DEFENSES.create("kd:teacher=(finetune:lr=0.1,epochs=1),batch=16,lr=0.01,weight=0.7,temperature=3")(
        model, images, RUN
    )
    net, step = steps[0]
    teacher = purified("finetune:lr=0.1,epochs=1,batch=16", model, images)
    x, y = images.pixels[:8].float() / 255, images.labels[:8]
    net.eval()
    with torch.no_grad():
        loss = step(net, x, y)["loss"].item()
        mine, theirs = net(x), teacher(x)
        p = (theirs / 3).softmax(1)
        kl = (p * (p.log() - (mine / 3).log_softmax(1))).sum(1).mean()
        expected = 0.3 * F.cross_entropy(mine, y) + 0.7 * 9 * kl
    assert loss == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("finetune:smoothing=1", r"finetune: expected smoothing in \[0, 1\), got 1"),
        ("finetune:rho=-1", "expected rho >= 0, got -1"),
        ("mixup:alpha=0", "mixup: expected alpha > 0, got 0"),
        ("fst:alpha=-1", "fst: expected alpha >= 0, got -1"),
        ("kd:weight=2", r"kd: expected weight in \[0, 1\] and temperature > 0, got 2 and 4"),
        ("kd:teacher=given", "kd: teacher=given would teach the network its own answers; name a defense"),
        ("sau:eps=0", r"sau: expected eps in \(0, 1\], steps >= 1 and stride > 0, got 0, 5 and 0.2"),
        ("i-bau:portion=0", r"i-bau: expected portion in \(0, 1\], fixed_point >= 0 and radius > 0, got 0, 5 and 10"),
        ("nad:rounds=0", "nad: expected rounds >= 1, got 0"),
    ],
)
def test_options_out_of_range(spec, message):
    with pytest.raises(NadError, match=message):
        DEFENSES.create(spec)


@pytest.mark.parametrize("name", ["mixup", "fst", "sau", "i-bau", "mesa", "neural-cleanse", "scratch", "mcr"])
def test_what_draws_in_every_pass_takes_no_sharpness(name):
    with pytest.raises(NadError, match=f"{name} has no option 'rho'"):
        DEFENSES.create(f"{name}:rho=1")


@pytest.mark.parametrize(
    ("method", "trainings"), [("finetune:lr=auto", 5), ("ft-sam:lr=auto", 5), ("mixup:lr=auto", 6)]
)
def test_a_rate_is_judged_against_the_given_network_or_the_mildest_training(
    model, images, monkeypatch, method, trainings
):
    fitted = []
    monkeypatch.setattr("nad.defenses.finetune.fit", lambda *args: fitted.append((args[2].lr, args[6])) or fit(*args))
    how = "epochs=1,batch=16,folds=1,max_drop=0.9"
    note = DEFENSES.create(f"{method},{how}")(model, images, RUN).notes["lr"]
    assert len(note["curve"]) == 5
    assert len(fitted) == trainings + 1, "the control is a training of its own only where no trial is the same"
    mildest = method.split(":")[0].replace("mixup", "finetune")
    assert (RATES[0], mildest) in fitted
    control = DEFENSES.create(f"{mildest}:lr={RATES[0]},{how}")
    (fold,) = folds(images, control.hold_out, RUN, control.folds)
    net = control(model, fold.kept, RUN).model
    assert note["control_accuracy"] == right(net, [fold.held], RUN).double().mean().item()
    assert note["reference_accuracy"] == min(note["given_accuracy"], note["control_accuracy"])


def test_the_rule_is_part_of_what_chooses_and_of_nothing_else():
    assert DEFENSES.create("finetune:lr=auto").configuration()["rule"] == 2
    assert DEFENSES.create("fst:alpha=auto").configuration()["rule"] == 2
    for fixed in ("finetune:lr=0.1", "fst", "fine-pruning:lr=0.1", "fine-pruning:tune=false", "nad:beta=auto"):
        assert "rule" not in DEFENSES.create(fixed).configuration(), fixed


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(NadError, match="scratch chooses no learning rate"):
        DEFENSES.create("scratch:lr=auto")


@pytest.mark.parametrize(
    ("spec", "rate"), [("sau:optimizer=adam", 1e-4), ("i-bau", 1e-3), ("sau", 0.05), ("fst", 0.01)]
)
def test_rates_that_are_chosen_from_are_of_the_methods_own_size(spec, rate):
    assert rate in DEFENSES.create(spec).rates
    assert list(DEFENSES.create(spec).rates) == sorted(DEFENSES.create(spec).rates)


def test_a_layer_that_cannot_be_drawn_anew_is_refused():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.fc = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.mean((2, 3)) * self.scale)

    images = ImageSet(torch.zeros(16, 3, 8, 8, dtype=torch.uint8), torch.arange(16) % 4, tuple("abcd"))
    with pytest.raises(NadError, match="scratch: Own does not say how its scale is drawn; pass model=NAME"):
        DEFENSES.create("scratch:epochs=1,batch=8")(Own(), images, Run())


def test_none_is_no_augmentation_and_what_is_not_said_is_the_recipes():
    assert DEFENSES.create("finetune:augment=none").how().augment == ()
    assert DEFENSES.create("finetune").how().augment == ("crop", "flip")
    for text in ("finetune:augment=none", "anp:augment=none", "nad:teacher=(i-bau:augment=none)"):
        method = DEFENSES.create(text)
        assert str(method) == text
        assert DEFENSES.create(str(method)) == method
    assert DEFENSES.create("nad:beta=none").beta is None


def test_training_may_end_before_its_schedule_does(model, images):
    """As many epochs, at the rates that they had in the whole."""
    how = "finetune:lr=0.1,batch=16,schedule=cosine"
    whole, part = (
        DEFENSES.create(f"{how},{length}")(model, images, RUN).history for length in ("epochs=4", "epochs=4,until=2")
    )
    assert [one["lr"] for one in part] == [one["lr"] for one in whole[:2]]
    assert [one["loss"] for one in part] == [one["loss"] for one in whole[:2]]
    with pytest.raises(NadError, match="expected until in 1 to epochs=4, got 5"):
        DEFENSES.create(f"{how},epochs=4,until=5")


@pytest.mark.parametrize("method", ["finetune", "nad:beta=0"])
def test_early_stopping_keeps_the_rates_that_it_was_chosen_with(model, images, method):
    joint = "," if ":" in method else ":"
    asked = f"{method}{joint}lr=0.1,batch=16,epochs=8,schedule=cosine,stop=early,max_drop=0.9"
    outcome = DEFENSES.create(asked)(model, images, RUN)
    chosen = outcome.notes["epochs"]["chosen"]
    assert chosen < 8, "else nothing is tested"
    assert len(outcome.history) == chosen
    whole = DEFENSES.create(asked.replace("stop=early,", ""))(model, images, RUN)
    assert outcome.history[-1]["lr"] == whole.history[chosen - 1]["lr"]


def test_a_patch_of_every_class_in_turn_where_there_are_more_than_fit(model, monkeypatch):
    """40 classes and 32 images a batch: half of them carry one at most, and no class is left out."""
    classes, carried = 40, []
    pixels = torch.randint(0, 256, (80, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    many = ImageSet(pixels, torch.arange(80) % classes, tuple(map(str, range(classes))))

    def numbered(noise: torch.Tensor) -> torch.Tensor:
        shape = (classes, noise.shape[1], 3, 3, 3)
        return torch.arange(classes).view(-1, 1, 1, 1, 1).expand(shape) / classes

    def seen(x: torch.Tensor, patches: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        assert len(x) == len(patches)
        carried.append((patches[:, 0, 0, 0] * classes).round().long().tolist())
        return x

    monkeypatch.setattr(mesa, "model_triggers", lambda *given: [numbered])
    monkeypatch.setattr(mesa, "pasted", seen)
    DEFENSES.create("mesa:batch=32,epochs=6,lr=0.01")(create("wrn-10-1", classes), many, RUN)
    assert max(map(len, carried)) == 16
    assert {one for batch in carried for one in batch} == set(range(classes))


def test_drawing_a_network_anew_leaves_the_random_numbers_alone(model, images):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    DEFENSES.create("scratch:epochs=1,batch=16")(model, images, RUN)
    assert torch.equal(torch.random.get_rng_state(), before)
