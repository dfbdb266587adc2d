"""The distillation itself (G5), its controls, its choices and its teachers."""

import copy
import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nad.attention import distances, distillation_loss, normalised_difference, reduced
from nad.data.images import ImageSet
from nad.data.synthetic import signs
from nad.defenses import DEFENSES, NAD, Defense, Finetune, Scratch
from nad.defenses.choosing import folds
from nad.defenses.distillation import Lesson, Taps, base_betas, find_taps, softened_divergence
from nad.defenses.nad_sau import judging, of_usual
from nad.defenses.taught import as_run
from nad.errors import NadError
from nad.models.card import Card
from nad.models.checkpoints import save
from nad.models.create import create
from nad.models.stages import find_stages, tap
from nad.runtime import Run
from nad.training import Recipe, fit

RUN = Run(seed=3)
RELEASED = (500.0, 1000.0, 1000.0)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return signs("train", 96, size=16)


@pytest.fixture
def model():
    return create("wrn-10-1", 12)


def weights(model) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in model.state_dict().values()])


def quick(text: str):
    return DEFENSES.create(text)


@pytest.mark.parametrize(
    "student",
    [
        "lr=0.02,epochs=2,batch=32",
        "lr=0.1,epochs=2,batch=32,augment=crop/cutout3,recipe=paper",
        "lr=0.05,epochs=3,batch=32,schedule=cosine",
    ],
)
def test_beta_zero_is_finetuning_bit_for_bit(model, images, student):
    control = quick(f"nad:beta=0,{student}")(model, images, RUN).model
    tuned = quick(f"finetune:{student}")(model, images, RUN).model
    assert torch.equal(weights(control), weights(tuned))
    moved = quick(f"nad:beta=5,{student}")(model, images, RUN).model
    assert not torch.equal(weights(moved), weights(tuned))


def test_no_teacher_is_made_that_no_term_needs(model, images, monkeypatch):
    monkeypatch.setattr(NAD, "taught", lambda *a: pytest.fail("a teacher was made"))
    quick("nad:beta=0/0/0,lr=0.02,epochs=1,batch=32")(model, images, RUN)


def test_a_term_of_weight_zero_is_not_computed(model, images):
    history = quick("nad:beta=0/2/0,lr=0.02,epochs=1,batch=32,teacher=(finetune:lr=0.1)")(model, images, RUN).history
    assert [k for k in history[0] if k.startswith("attention")] == ["attention_2"]


def test_the_attention_term_reaches_the_first_convolution(model, images):
    """The regression test for a term that is detached from the graph, as it was in the released code for a year."""
    teacher = create("wrn-10-1", 12, seed=9).eval()
    x, y = images.pixels[:16].float() / 255, images.labels[:16]
    stages = find_stages(model, x[:1])

    def gradient(beta: float) -> torch.Tensor:
        with tap(model, stages) as s, tap(teacher, stages) as t:
            loss = F.cross_entropy(model(x), y)
            with torch.no_grad():
                teacher(x)
            loss = loss + beta * sum(distillation_loss(s[g.name], t[g.name]) for g in stages)
        return torch.autograd.grad(loss, model.conv1.weight)[0]

    plain, with_term = gradient(0.0), gradient(1.0)
    assert ((with_term - plain).norm() / plain.norm()).item() > 1e-3


def test_softened_divergence_by_hand():
    """q = (1/2, 1/2), p = (3/4, 1/4): KL(p || q) = 3/4 ln 3/2 - 1/4 ln 2, times T^2."""
    kl = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    wanted = torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]])
    assert softened_divergence(torch.zeros(2, 2), wanted, 2.0).item() == pytest.approx(4 * kl / 2)
    assert softened_divergence(wanted, wanted).item() == pytest.approx(0, abs=1e-6)


def test_an_anchor_keeps_the_answers_and_none_is_no_anchor(model, images):
    how = "lr=0.02,epochs=4,batch=32,augment=none"
    own = "teacher=(finetune:lr=0.1),beta=2"

    def moved(spec: str) -> float:
        outcome = quick(spec)(model, images, RUN)
        x = images.pixels.float() / 255
        with torch.no_grad():
            return softened_divergence(outcome.model(x), model.eval()(x)).item()

    free, held = moved(f"nad:{own},{how}"), moved(f"nad:{own},{how},anchor=20")
    assert held < free / 2
    control = quick(f"nad:beta=0,anchor=20,{how}")(model, images, RUN)
    assert set(control.history[0]) >= {"ce", "anchor"}
    assert "d_1" not in control.history[0]
    for off in ("anchor=0", "anchor=none"):
        same = quick(f"nad:beta=0,{how},{off}")(model, images, RUN).model
        assert torch.equal(weights(same), weights(quick(f"finetune:{how}")(model, images, RUN).model))
    with pytest.raises(NadError, match="expected anchor >= 0, got -1"):
        quick("nad:anchor=-1")


def test_a_student_that_starts_as_its_teacher_is_anchored_to_the_given_network(model, images):
    """With a rate too small to move anything it is its teacher, whose answers are not those that are asked for."""
    teacher = "finetune:lr=0.1,epochs=3,batch=32,augment=none"
    how = "lr=1e-9,epochs=1,batch=32,augment=none"
    taught = quick(teacher)(model, images, RUN).model
    started = quick(f"nad:teacher=({teacher}),start=teacher,beta=0,anchor=1,{how}")(model, images, RUN)
    named = quick(f"nad:teacher=({teacher}),start=({teacher}),beta=0,anchor=1,{how}")(model, images, RUN)
    logits = quick(f"kd:teacher=({teacher}),start=teacher,{how}")(model, images, RUN)
    nets = (taught, started.model, named.model, logits.model)
    own, *others = (torch.cat([p.flatten() for p in net.parameters()]) for net in nets)
    assert all((own - other).abs().max() < 1e-6 for other in others)
    assert torch.equal(others[0], others[1])
    x = images.pixels.float() / 255
    with torch.no_grad():
        apart = softened_divergence(taught.train()(x), model.eval()(x)).item()
    assert started.history[0]["anchor"] == pytest.approx(apart, rel=0.3)
    assert apart > 0.01, "a student anchored to itself would begin at 0"
    other = "teacher=(scratch:epochs=1,batch=32),teacher_model=wrn-10-2"
    with pytest.raises(NadError, match="start=teacher needs a teacher of the given network's architecture"):
        quick(f"nad:{other},start=teacher,beta=1,{how}")(model, images, RUN)


def test_the_teacher_is_frozen(model, images):
    teacher = create("wrn-10-1", 12, seed=9)
    before = weights(teacher)
    taps = find_taps(model, teacher, images, RUN, "sum", 2.0)
    with Lesson(teacher, taps, (1.0,) * 3, anchor=(teacher, 1.0)).step(model, RUN) as step:
        fit(model, images, Recipe(epochs=2, batch=32), RUN, step)
    assert torch.equal(weights(teacher), before), "parameters, BatchNorm buffers and their counters"
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_term_alone_halves_the_distance_in_fifty_steps(model, images, precision):
    teacher = create("wrn-10-1", 12, seed=9).eval()
    x = images.pixels[:32].float() / 255
    stages = find_stages(model, x[:1])
    run = Run(precision=precision)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    seen = []
    with tap(model, stages) as s, tap(teacher, stages) as t:
        for _ in range(50):
            with run.fabric.autocast():
                model(x)
            with run.inference():
                teacher(x)
            differences = [normalised_difference(s[g.name], t[g.name], "sum", 2.0) for g in stages]
            seen.append([distances(d.detach()).mean().item() for d in differences])
            optimizer.zero_grad()
            sum(reduced(d, "sq") for d in differences).backward()
            optimizer.step()
    assert sum(seen[-1]) <= sum(seen[0]) / 2


def test_more_beta_means_less_distance(model, images):
    teacher = create("wrn-10-1", 12, seed=9)
    taps = find_taps(model, teacher, images, RUN, "sum", 2.0)
    recipe = Recipe(epochs=10, batch=32, lr=0.02, schedule="constant")

    def ends(beta: float) -> float:
        student = copy.deepcopy(model)
        with Lesson(teacher, taps, (beta,) * 3).step(student, RUN) as step:
            return fit(student, images, recipe, RUN, step)[-1]["d_3"]

    weak, middle, strong = ends(0.01), ends(0.3), ends(5)
    assert weak > 1.2 * middle
    assert middle > 1.2 * strong


@pytest.mark.parametrize(
    ("form", "beta"), [("mse", RELEASED), ("sq", tuple(b / p for b, p in zip(RELEASED, (256, 64, 16))))]
)
def test_released_betas_mean_the_same_in_both_conventions(model, images, form, beta):
    method = NAD(beta=beta, loss=form, lr=0.02, epochs=1, batch=32, teacher=Finetune(lr=0.1, epochs=1))
    loss = method(model, images, Run(precision="fp32")).history[0]["loss"]
    reference = NAD(beta=RELEASED, loss="mse", lr=0.02, epochs=1, batch=32, teacher=Finetune(lr=0.1, epochs=1))
    assert loss == pytest.approx(reference(model, images, Run(precision="fp32")).history[0]["loss"], rel=1e-4)


def test_base_betas_are_the_released_ones_on_a_wrn_at_32_pixels():
    x = torch.rand(1, 3, 32, 32)
    stages = find_stages(create("wrn-16-1", 10), x)
    taps = Taps(stages, stages, (0.5, 0.5, 0.5))
    assert base_betas(taps, "sq", "sum") == (0.48828125, 3.90625, 15.625)
    assert base_betas(taps, "mse", "sum") == RELEASED
    assert base_betas(taps, "eq2", "sum") == (0.48828125, 3.90625, 15.625), "at d = 0.5 both have one gradient"


def test_strength_multiplies_the_released_betas_where_no_beta_is_said():
    model, images = create("wrn-10-1", 12), signs("train", 64, size=32)
    how = "loss=mse,lr=0.02,epochs=1,batch=32,teacher=(finetune:lr=0.1,epochs=1)"

    def made(what: str) -> torch.Tensor:
        return weights(quick(f"nad:{what},{how}")(model, images, RUN).model)

    three = made("beta=1500/3000/3000")
    assert torch.equal(made("strength=3"), three)
    assert not torch.equal(made("strength=1"), three)
    assert torch.equal(made("strength=0"), made("beta=0"))
    assert torch.equal(made("strength=1,beta=1500/3000/3000"), three)


def test_the_recommended_composition_has_a_name():
    student = "start=teacher,strength=3,lr=0.01,epochs=20,batch=128,schedule=cosine,rho=1"
    teacher = "sau:batch=64,weight=1,eps=0.4,stride=0.4,lr=0.02"
    whole = quick(f"nad:teacher=({teacher}),{student}").configuration()
    assert quick("nad-sau:fallback=none").configuration() == whole | {"name": "nad-sau"}
    assert not quick("nad-sau").chooses_beta
    assert not quick("nad-sau").chooses_lr


@pytest.fixture(scope="module")
def learned(images):
    return quick("finetune:lr=0.1,epochs=30,batch=16")(create("wrn-10-1", 12), images, RUN).model


WRECKING = "nad-sau:teacher=(finetune:lr=50,epochs=2),strength=0,epochs=2,batch=16,lr=0.01"


@pytest.mark.parametrize(
    ("spec", "chosen", "tried"),
    [
        (f"{WRECKING},fallback=1e-7", 1e-7, 2),
        (f"{WRECKING},fallback=0.9", 0.9, 2),
        (f"{WRECKING},fallback=1e-7,max_drop=0.99", 1, 1),
        (f"{WRECKING.replace('lr=50', 'lr=1e38')},fallback=1e-42", 1e-42, 2),
    ],
)
def test_rates_that_cost_too_much_on_held_out_images_give_way_to_smaller_ones(learned, images, spec, chosen, tried):
    outcome = quick(spec)(learned, images, RUN)
    note = outcome.notes["learning rates"]
    assert (note["chosen"], len(note["curve"])) == (of_usual(chosen), tried)
    assert note["untried"] == (["1e-07 of the usual"] if tried == 1 else [])
    assert ("control_accuracy" in note) == (chosen < 1), "what fits is compared with the network alone"
    assert note["held_out"] == len(images), (
        "96 images are fewer than are enough to judge by, so all five folds are used"
    )
    assert outcome.method.fallback is None, "what was run chooses nothing any more"
    asked = quick(spec)
    rates = [asked.lr * chosen, asked.teacher.lr * chosen]
    assert [outcome.method.lr, outcome.method.teacher.lr] == pytest.approx(rates, rel=1e-6, abs=0), "the teacher's too"
    assert ("the gentlest was taken" in note.get("warning", "")) == (chosen == 0.9)
    again = outcome.method(learned, images, RUN)
    assert torch.equal(weights(again.model), weights(outcome.model))


@pytest.mark.parametrize("factor", ["0", "1", "-0.3", "3"])
def test_a_fallback_is_smaller_rates(factor):
    with pytest.raises(NadError, match="nad-sau: expected fallback between 0 and 1, or none, got"):
        Defense.parse(f"nad-sau:fallback={factor}")


def test_rates_with_many_digits_run_as_they_are_said(learned, images):
    outcome = quick("nad-sau:teacher=(finetune:lr=1e-6,epochs=1),strength=0,epochs=1,batch=16,lr=1.23456e-6")(
        learned, images, RUN
    )
    assert (outcome.notes["learning rates"]["chosen"], outcome.method.lr) == ("the usual", 1.23456e-6)


def test_rates_that_wreck_the_network_without_a_teacher_are_made_smaller_for_all(learned, images):
    how = "strength=0,epochs=2,batch=16,lr=3,max_drop=0.2"
    outcome = quick(f"nad-sau:teacher=(finetune:lr=5,epochs=1),fallback=0.5,{how}")(learned, images, RUN)
    note = outcome.notes["learning rates"]
    most = note["scale"]["chosen"]
    assert most < 1
    (chosen,) = [factor for factor in (most, most / 2) if of_usual(factor) == note["chosen"]]
    assert [outcome.method.lr, outcome.method.teacher.lr] == pytest.approx([3 * chosen, 5 * chosen])
    assert note["curve"][-1]["accuracy"] > 2 * note["scale"]["kept"][0][1], "far more than the usual rates leave"
    assert torch.equal(weights(outcome.method(learned, images, RUN).model), weights(outcome.model)), (
        "it is what was run"
    )


def test_what_the_student_forgets_without_a_teacher_is_not_held_against_one(learned, images, monkeypatch):
    monkeypatch.setattr("nad.defenses.choosing.KEPT", 0)  # however much it is
    how = "strength=0,epochs=2,batch=16,lr=3,max_drop=0.2"
    same = "finetune:lr=1e-6,epochs=1"
    note = quick(f"nad-sau:teacher=({same}),{how}")(learned, images, RUN).notes["learning rates"]
    assert note["given_accuracy"] - note["control_accuracy"] > 0.2
    assert (note["reference_accuracy"], note["chosen"]) == (note["control_accuracy"], "the usual")


@pytest.mark.parametrize(
    ("count", "how", "trained_on", "trainings"),
    [(700, "", 600, 1), (699, "", 699, 2), (700, ",hold_out=0.1", 630, 1), (700, ",folds=2", 700, 2)],
)
def test_of_many_images_the_student_that_was_judged_is_the_result(
    monkeypatch, caplog, count, how, trained_on, trainings
):
    caplog.set_level(logging.INFO)
    many, sizes = signs("train", 720, size=16).subset(torch.arange(count)), []
    student = NAD.student

    def counted(self, cast, images, *more):
        sizes.append(len(images))
        return student(self, cast, images, *more)

    monkeypatch.setattr(NAD, "student", counted)
    easy = "nad-sau:teacher=(finetune:lr=1e-6,epochs=1),strength=0,epochs=1,batch=64,lr=1e-6"
    outcome = quick(f"{easy}{how}")(create("wrn-10-1", 12), many, RUN)
    note = outcome.notes["learning rates"]
    assert (note["chosen"], note["trained_on"], len(sizes)) == ("the usual", trained_on, trainings)
    assert sizes[-1] == trained_on
    last = ", and then once on all images" * (trainings - 1)
    assert caplog.messages[0] == (
        f"nad-sau trains 1 time to judge the usual learning rates, at least 2 times more if they cost too much{last}"
    )
    if trainings == 1:
        assert note["held_out"] == count - trained_on


def test_no_more_folds_are_trained_on_than_judge():
    many = signs("train", 600, size=32)
    assert [len(fold.held) for fold in judging(folds(many, 0.2, RUN))] == [120]
    assert sum(len(fold.held) for fold in judging(folds(many.subset(torch.arange(300)), 0.2, RUN))) == 120


def test_a_nested_teacher_inherits_what_it_leaves_open(model, images):
    method = NAD(recipe="paper", epochs=3, augment=("flip",), batch=24, beta=(1.0,), teacher=Finetune(epochs=1))
    inner = method.taught(model, images, RUN).method
    assert (inner.recipe, inner.epochs, inner.augment, inner.batch) == ("paper", 1, ("flip",), 24)
    assert inner.how().schedule == "paper"
    assert Scratch().inheriting(method).epochs == 60, "from scratch takes longer, and says so itself"
    (said,) = {as_run(method).teacher, as_run(as_run(method)).teacher}
    assert replace(said, folds=1) == inner
    deep = Defense.parse(
        "chain:first=clp,then=(nad:recipe=paper,beta=1,teacher=(nad:beta=1,teacher=(finetune:lr=0.3)))"
    )
    recorded = as_run(deep).configuration()["then"]["teacher"]["teacher"]
    assert (recorded["how"]["augment"], recorded["lr"]) == (["crop", "flip", "cutout9"], 0.3)


@pytest.mark.parametrize("p", [1, 2])
def test_sum_and_mean_are_one_operator_by_algebra(model, images, p):
    """Acceptance test G19b: the same losses and the same weights, but for rounding."""
    spec = f"nad:p={p},lr=0.05,beta=50,epochs=2,batch=32,teacher=(finetune:lr=0.1)"
    one, two = (quick(f"{spec},attention={operator}")(model, images, RUN) for operator in ("sum", "mean"))
    for ours, theirs in zip(one.history, two.history):
        assert ours | {"seconds": 0} == pytest.approx(theirs | {"seconds": 0}, rel=1e-4)
    assert torch.allclose(weights(one.model), weights(two.model), atol=1e-5)
    plain = quick(spec.replace("beta=50", "beta=0"))(model, images, RUN)
    assert not torch.allclose(weights(one.model), weights(plain.model), atol=1e-3), "the term does something here"


def test_teacher_and_student_rates_are_apart(model, images):
    one, two = (
        quick(f"nad:lr=0.01,beta=5,epochs=2,batch=32,teacher=(finetune:lr={lr})")(model, images, RUN)
        for lr in (0.1, 0.01)
    )
    assert [h["lr"] for h in one.history] == [h["lr"] for h in two.history] == [0.01, 0.01]
    assert not torch.equal(weights(one.model), weights(two.model))


@pytest.mark.parametrize(
    "spec",
    [
        "nad:teacher=scratch,teacher_model=wrn-16-2",
        "nad:teacher=(scratch:epochs=2)",
        "nad:attention=mean,p=1",
        "nad:attention=raw",
        "nad:loss=eq2",
        "nad:stages=block2/block3",
        "nad:teacher=(nad:beta=1,lr=0.02,teacher=(finetune:lr=0.1))",
    ],
)
def test_variants_run_and_record_their_terms(model, images, spec):
    full = spec.replace("teacher=scratch,", "teacher=(scratch:epochs=2),") + ",beta=1,lr=0.02,epochs=1,batch=32"
    if "teacher=" not in full:
        full += ",teacher=(finetune:lr=0.1)"
    outcome = quick(full)(model, images, RUN)
    terms = [v for k, v in outcome.history[0].items() if k.startswith("attention")]
    assert len(terms) == len(outcome.notes["stages"])
    assert all(math.isfinite(t) and t > 0 for t in terms)


def test_a_teacher_from_a_checkpoint_of_another_architecture(model, images, tmp_path):
    save(tmp_path, create("wrn-16-2", 12, seed=4), Card(architecture="wrn-16-2", classes=images.classes))
    common = "beta=1,lr=0.02,epochs=1,batch=32"
    by_card = quick(f"nad:teacher_checkpoint={tmp_path},{common}")(model, images, RUN)
    (tmp_path / "model.json").unlink()
    named = quick(f"nad:teacher_checkpoint={tmp_path},teacher_model=wrn-16-2,{common}")(model, images, RUN)
    assert torch.equal(weights(by_card.model), weights(named.model))


def test_choices_are_made_on_held_out_images_and_their_curves_kept(model, images):
    outcome = quick("nad:epochs=1,batch=16,max_drop=0.9,stop=early,folds=1")(model, images, RUN)
    notes, method = outcome.notes, outcome.method
    assert {"teacher", "beta", "epochs"} <= set(notes)
    curve = notes["beta"]["curve"]
    assert [c["setting"] for c in curve] == [2.0**k for k in range(-2, 7)][: len(curve)]
    assert all({"accuracy", "drop", "accepted", "ce", "d_1"} <= set(c) for c in curve)
    assert method.lr == pytest.approx(method.teacher.lr / 5)
    assert method.beta == pytest.approx(tuple(notes["beta"]["chosen"] * b for b in notes["beta"]["base"]))
    again = quick(str(method))(model, images, RUN)
    assert torch.equal(weights(again.model), weights(outcome.model)), "what was chosen can be run again as written"


def test_the_teacher_never_sees_what_nad_holds_out_while_it_chooses(model, images, monkeypatch):
    seen = []
    original = Finetune.__call__

    def spy(self, model, kept, run=None):
        seen.append({tuple(p.flatten().tolist()) for p in kept.pixels})
        return original(self, model, kept, run)

    monkeypatch.setattr(Finetune, "__call__", spy)
    method = quick("nad:epochs=1,batch=16,lr=0.02,beta=auto,folds=2,max_drop=0.9,teacher=(finetune:lr=0.1)")
    held = [{tuple(p.flatten().tolist()) for p in f.held.pixels} for f in method.held_out(images, RUN)]
    method(model, images, RUN)
    assert len(seen) == 3, "a teacher for each fold, and the last one on all images"
    for kept, out in zip(seen, held):
        assert not kept & out
    assert all(out <= seen[-1] for out in held)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nad:beta=1/2", "beta has 2 entries for 3 stages: block1, block2, block3"),
        ("nad:beta=-1", "every beta >= 0"),
        ("nad:p=0.5", "expected p >= 1"),
        ("nad:strength=-1", "nad: expected strength >= 0, got -1"),
        ("nad:teacher_model=wrn-16-2", "teacher_model needs teacher_checkpoint=FILE or teacher=scratch"),
        ("nad:beta=1,stages=block9", "block9"),
        ("nad:max_drop=1.5", r"expected max_drop in \[0, 1\)"),
        ("nad:teacher=badnets", "unknown defense 'badnets'"),
    ],
)
def test_bad_input(model, images, spec, message):
    with pytest.raises(NadError, match=message):
        quick(f"{spec},lr=0.01" + ("" if "batch" in spec else ",batch=32"))(model, images, RUN)


def test_what_a_teacher_chose_by_itself_is_recorded(model, images):
    teacher = "teacher=(finetune:lr=auto,epochs=1,batch=16,max_drop=0.99,folds=1)"
    outcome = quick(f"nad:{teacher},lr=0.01,beta=1,epochs=1,batch=16")(model, images, RUN)
    assert len(outcome.notes["teacher"]["lr"]["curve"]) > 1
    assert outcome.method.teacher.lr == outcome.notes["teacher"]["lr"]["chosen"]
    again = outcome.method(model, images, RUN)
    assert torch.equal(weights(again.model), weights(outcome.model))


class Second(nn.Module):
    """Its first stage says everything in signs, which attention does not see: found by probing, and without signal."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Hardtanh())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.stage3 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 12)
        with torch.no_grad():
            self.stage1[0].weight.mul_(1e9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.stage3(self.stage2(self.stage1(x)))).flatten(1))


def test_a_dropped_stage_takes_its_beta_with_it(images):
    teacher = "teacher=(finetune:lr=0.001,epochs=1,batch=32),lr=0.01,epochs=1,batch=32"
    net = Second()
    for beta, used in (("5/7/9", (7, 9)), ("7/9", (7, 9)), ("7", (7, 7))):
        method = quick(f"nad:beta={beta},{teacher}")
        lesson = method.lesson(net, method.taught(net, images, RUN).model, images, RUN)
        assert [s.name for s in lesson.taps.student] == ["stage2.1", "stage3.1"]
        assert lesson.betas == used
    with pytest.raises(NadError, match="beta has 4 entries for 3 stages"):
        quick(f"nad:beta=1/2/3/4,{teacher}")(net, images, RUN)
    outcome = quick(f"nad:beta=auto,folds=1,max_drop=0.99,{teacher}")(net, images, RUN)
    assert len(outcome.method.beta) == len(outcome.notes["stages"]) == 2
    assert outcome.notes["dropped_stages"][0].startswith("stage1.1")


def test_stages_of_another_architecture_are_those_at_the_same_depth(model, images):
    wide = create("wrn-10-2", 12)
    for names in (["block1"], ["block1", "block2"], ["block2"], None):
        taps = find_taps(model, wide, images, RUN, "sum", 2.0, names)
        assert (
            [s.name for s in taps.teacher]
            == [s.name for s in taps.student]
            == (names or ["block1", "block2", "block3"])
        )
    inner = find_taps(model, wide, images, RUN, "sum", 2.0, ["block1.layer.0"])
    assert [s.name for s in inner.teacher] == ["block1.layer.0"], "what probing does not find has the same name"
    other = create("torchvision:resnet18", 12)
    assert [s.name for s in find_taps(model, other, images, RUN, "sum", 2.0, ["block3"]).teacher] == ["layer2"]
    with pytest.raises(NadError, match=r"the teacher is another network, .*no layer 'block1\.layer\.0'"):
        find_taps(model, other, images, RUN, "sum", 2.0, ["block1.layer.0"])
    with pytest.raises(NadError, match=r"the student has 3 stages and the teacher 2; name as many .*: block2, block3"):
        find_taps(model, other, images, RUN, "sum", 2.0, ["block1"])


def test_one_live_stage_is_too_few_unless_it_is_named(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 12))
    with pytest.raises(NadError, match=r"found one live stage, 1, .* --stages a/b/c\nlayers with feature maps: 0, 1$"):
        find_taps(model, model, images, RUN, "sum", 2.0)
    assert [s.name for s in find_taps(model, model, images, RUN, "sum", 2.0, ["1"]).student] == ["1"]
    with pytest.raises(NadError, match=r"carries no signal: 2 .*, --stages a/b/c"):
        find_taps(model, model, images, RUN, "sum", 2.0, ["1", "2"])


def test_a_card_may_not_name_a_teacher_file():
    with pytest.raises(NadError, match="teacher_checkpoint is refused"):
        DEFENSES.create("nad:teacher_checkpoint=x.pt", trusted=False)
    with pytest.raises(NadError, match="teacher_checkpoint is refused"):
        DEFENSES.create("nad:teacher=(nad:teacher_checkpoint=x.pt)", trusted=False)


SHORT = "lr=0.02,epochs=1,batch=32"


def test_the_given_network_may_be_the_teacher_of_a_tuned_student(model, images):
    """Figure 4's (B, B-F): the distance is between the given network and one that was fine-tuned."""
    tuned = quick("finetune:lr=0.1,epochs=2,batch=32")
    spec = f"nad:teacher=given,start=({tuned}),beta=0/0/50,{SHORT}"
    outcome = quick(spec)(model, images, RUN)
    started = quick(f"finetune:{SHORT}")(tuned(model, images, RUN).model, images, RUN).model
    pulled, free = weights(outcome.model), weights(started)
    assert not torch.equal(pulled, free)
    stages = find_stages(model, images.pixels[:1].float() / 255)
    x = images.pixels.float() / 255

    def apart(net) -> float:
        with torch.no_grad(), tap(net, stages) as s, tap(model.eval(), stages) as t:
            net(x)
            model(x)
            return distances(normalised_difference(s[stages[-1].name], t[stages[-1].name], "sum", 2)).mean().item()

    assert apart(outcome.model) < apart(started)


def test_a_student_that_starts_elsewhere_without_distillation_is_two_tunings(model, images):
    first = quick("finetune:lr=0.1,epochs=1,batch=32")
    two = quick(f"finetune:{SHORT}")(first(model, images, RUN).model, images, RUN).model
    one = quick(f"nad:beta=0,start=({first}),{SHORT}")(model, images, RUN).model
    assert torch.equal(weights(one), weights(two))


def test_rounds_make_each_teacher_of_the_student_before(model, images, monkeypatch):
    seen, original = [], NAD.taught
    monkeypatch.setattr(NAD, "taught", lambda self, net, *a: seen.append(weights(net)) or original(self, net, *a))
    spec = f"nad:teacher=(finetune:lr=0.1,epochs=1),beta=5,{SHORT}"
    once = quick(spec)(model, images, RUN).model
    thrice = quick(f"{spec},rounds=3")(model, images, RUN).model
    assert len(seen) == 1 + 3
    assert torch.equal(seen[1], seen[0])
    assert torch.equal(seen[2], weights(once)), "the second teacher is made of the first student"
    assert not torch.equal(weights(thrice), weights(once))


def test_more_rounds_go_on_from_fewer(model, images, tmp_path, monkeypatch):
    spec, run = f"nad:teacher=(finetune:lr=0.1,epochs=1),beta=5,{SHORT}", replace(RUN, keep=tmp_path)
    alone = quick(f"{spec},rounds=3")(model, images, RUN).model
    quick(f"{spec},rounds=2")(model, images, run)
    trained, original = [], NAD.student
    monkeypatch.setattr(NAD, "student", lambda self, *a: trained.append(self.rounds) or original(self, *a))
    outcome = quick(f"{spec},rounds=3")(model, images, run)
    assert trained == [3], "the two before are kept"
    assert torch.equal(weights(outcome.model), weights(alone))


@pytest.mark.parametrize("teacher", ["ft-sam:epochs=1,batch=16", "fst:epochs=1", "clp:u=0.5", "mixup:lr=0.1,epochs=1"])
def test_any_eraser_can_be_the_teacher(model, images, teacher):
    outcome = quick(f"nad:teacher=({teacher}),beta=5,rho=0.5,{SHORT}")(model, images, RUN)
    assert outcome.history[-1]["attention_1"] > 0
    assert not torch.equal(weights(outcome.model), weights(quick(f"nad:beta=0,{SHORT}")(model, images, RUN).model))


def test_the_distance_that_betas_are_carried_over_by_is_not_that_of_a_copy():
    with pytest.raises(NadError, match="with start=teacher that is 0; give beta, or another loss"):
        quick("nad-sau:loss=eq2")
    assert quick("nad-sau:loss=eq2,beta=5").beta == (5.0,)
    assert quick("nad-sau:loss=eq2,strength=0")


def test_a_teachers_choice_is_made_once_for_all_folds(model, images):
    """Of few images, several parts: the second teacher has the rate that the first one chose."""
    chosen = []
    original = Finetune.settled

    def settled(self, *given):
        chosen.append(self.lr)
        return original(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetune, "settled", settled)
        outcome = quick("nad:epochs=1,batch=16,max_drop=0.9,folds=3")(model, images, RUN)
    assert chosen[0] is None
    assert set(chosen[1:]) == {outcome.method.teacher.lr}
    assert len(chosen) == 4, "a teacher for each of three parts, and one of all images"
