"""The whole job on small rendered signs (G18), and on the real images where they are."""

import copy
import dataclasses
import os
from pathlib import Path

import pytest
import torch

import nad
from nad.attacks import BadNets
from nad.data.sources import Dataset
from nad.data.synthetic import signs
from nad.defenses import Defense
from nad.detection import DETECTORS
from nad.errors import NadError
from nad.models.checkpoints import load, read, save, weights_fingerprint
from nad.models.normalize import unwrap
from nad.pipeline import Terms, attack_on, evaluate_checkpoint, loaded_from, purify_checkpoint, train
from nad.runtime import Run
from nad.training import Recipe, predictions

ZOO = Path(__file__).parent.parent / "zoo"
ATTACK = BadNets(target=0, rate=0.1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("signs", signs("train", 1800, size=16), signs("test", 480, size=16))


@pytest.fixture(scope="module")
def victim(dataset):
    recipe = Recipe(epochs=16, lr=0.2, schedule="onecycle", batch=64, weight_decay=5e-4)
    return train(dataset, "wrn-10-1", ATTACK, recipe, Run(seed=100))


def test_the_backdoor_is_planted(victim):
    after = victim.result.after
    assert after.asr.rate >= 0.95
    assert after.acc.rate >= 0.7
    assert after.asr.of == after.acc_nt.of == 440


def test_finetuning_and_nad_run_and_are_recorded(victim, dataset):
    common = "lr=0.02,epochs=6,batch=32,augment=crop"
    specs = [f"finetune:{common}", *(f"nad:teacher=(finetune:lr=0.2),beta={b},{common}" for b in (0, 2, 20))]
    made = purify_checkpoint(
        loaded_from(victim), dataset, [Defense.parse(s) for s in specs], Run(seed=101), Terms(clean=0.2, attack=ATTACK)
    )
    tuned, control, weak, strong = made
    assert control.result.after == tuned.result.after, "beta 0 is fine-tuning"
    assert strong.history[-1]["d_3"] < weak.history[-1]["d_3"], "distance falls with beta"
    assert strong.result.after.asr.hits < control.result.after.asr.hits, "the attention term erases"
    for one in made:
        shown = one.result.to_json()
        assert shown["run"]["seed"] == 101
        assert set(shown["after"]) == {"acc", "acc_nt", "asr", "ra", "counts"}
        assert shown["before"]["asr"] == victim.result.after.asr.rate
        assert shown["data"]["clean"]["count"] == 360


def test_the_attack_given_for_evaluation_does_not_reach_the_method(victim, dataset):
    method = [Defense.parse("nad:teacher=(finetune:lr=0.1),lr=0.02,beta=1,epochs=1,batch=32")]
    with_attack, without = (
        purify_checkpoint(loaded_from(victim), dataset, method, Run(seed=1), Terms(clean=0.1, attack=a))[0]
        for a in (ATTACK, None)
    )
    one, two = with_attack.model.state_dict(), without.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert without.result.after.asr is None


def test_images_with_the_networks_classes_in_another_order_are_refused(victim, dataset):
    turned = dataclasses.replace(dataset.train, classes=dataset.classes[::-1])
    with pytest.raises(
        NadError, match=r"the network has its classes in the order stop, .* give the images in the network's order"
    ):
        purify_checkpoint(loaded_from(victim), Dataset("signs", turned, None), [], Run())


def test_images_of_another_size_than_the_network_was_trained_on_are_refused(victim):
    other = Dataset("signs", signs("train", 24, size=24), None)
    with pytest.raises(NadError, match="trained on 16x16 pixels and the images are 24x24; pass --size 16"):
        purify_checkpoint(loaded_from(victim), other, [], Run())


def test_purify_in_memory_is_the_same_as_from_a_checkpoint(victim, dataset):
    spec = "finetune:lr=0.05,epochs=1,batch=32"
    (made,) = purify_checkpoint(
        loaded_from(victim), dataset, [Defense.parse(spec)], Run(seed=2), Terms(clean=0.1, budget=0)
    )
    outcome = nad.purify(victim.model, dataset.train.subset(made.indices["clean"]), spec, seed=2)
    assert all(torch.equal(v, made.model.state_dict()[k]) for k, v in outcome.model.state_dict().items())
    assert sum(made.result.evidence["answered"]["after"]) == made.result.after.acc.of
    without = {"answered", "intake", "reported", "stages", "pictures", "limits"}
    assert set(made.result.evidence) == without, "no budget, no evidence"
    assert list(made.pictures) == ["attention.png"]
    assert sum(map(sum, made.result.evidence["reported"])) == made.result.after.acc.of


def test_what_is_reported_is_of_the_weights_that_are_written(victim, dataset, tmp_path):
    save(tmp_path, copy.deepcopy(victim.model).half(), victim.card)
    given = load(tmp_path)
    method = [Defense.parse("finetune:lr=0.02,epochs=1,batch=32")]
    (made,) = purify_checkpoint(given, dataset, method, Run(seed=2), Terms(clean=0.1, budget=0))
    (tmp_path / "out").mkdir()
    made.write(tmp_path / "out", like=given)
    written, reported = load(tmp_path / "out").model.state_dict(), made.model.state_dict()
    assert written["fc.weight"].half().float().equal(written["fc.weight"])
    assert all(torch.equal(written[key], reported[key]) for key in written)


def test_a_file_without_counters_of_batches_is_purified(victim, dataset, tmp_path):
    """As PyTorch wrote them before 0.4.1, and converters do."""
    state = {k: v for k, v in unwrap(victim.model).state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pt")
    given = load(tmp_path / "old.pt", "wrn-10-1", normalise="none")
    (made,) = purify_checkpoint(given, dataset, [Defense.parse("clp")], Run(), Terms(clean=0.1, budget=0))
    (tmp_path / "out").mkdir()
    made.write(tmp_path / "out", like=given)
    assert set(read(tmp_path / "out" / "model.safetensors")) == set(state)


def test_weights_that_their_type_does_not_hold_are_refused(victim, tmp_path):
    save(tmp_path, copy.deepcopy(victim.model).half(), victim.card)
    given = load(tmp_path)
    model = copy.deepcopy(given.model)
    unwrap(model).block1.layer[0].bn1.running_var[0] = 1e5
    with pytest.raises(NadError, match=r"running_var reaches 1e\+05, more than torch.float16 holds"):
        given.round(model)


def test_each_network_answers_the_reported_images_once(victim, dataset, monkeypatch):
    asked = []

    def counted(model, images, run):
        asked.append(len(images))
        return predictions(model, images, run)

    for module in (nad.evaluation, nad.pipeline.erasing, nad.pipeline.examining):
        monkeypatch.setattr(module, "predictions", counted)
    method = [Defense.parse("finetune:lr=0.05,epochs=1,batch=32")]
    purify_checkpoint(loaded_from(victim), dataset, method, Run(), Terms(clean=0.1, budget=0))
    assert asked.count(len(dataset.test)) == 2, "before and after"


def test_the_subset_and_all_else_may_have_seeds_of_their_own(victim, dataset):
    method = [Defense.parse("finetune:lr=0.05,epochs=1,batch=32")]
    drawn = {
        (seed, subset): purify_checkpoint(
            loaded_from(victim), dataset, method, Run(seed=seed), Terms(clean=0.1, subset=subset)
        )[0]
        for seed, subset in ((0, None), (0, 0), (0, 1), (1, 0))
    }
    images = {key: one.result.data["clean"]["fingerprint"] for key, one in drawn.items()}
    assert images[0, None] == images[0, 0] == images[1, 0] != images[0, 1]
    weights = {key: weights_fingerprint(one.model) for key, one in drawn.items()}
    assert weights[0, None] == weights[0, 0]
    assert len(set(weights.values())) == 3


def test_pictures_are_mirrored_only_where_that_means_the_same(victim, dataset):
    method = [Defense.parse("nad:beta=1,lr=0.05,epochs=1,batch=32,teacher=(finetune:lr=0.05)")]
    bare, looked = (
        purify_checkpoint(loaded_from(victim), dataset, method, Run(seed=2), Terms(clean=0.1, budget=budget))[0]
        for budget in (None, 0)
    )
    assert bare.result.configuration["how"]["augment"] == ["crop", "flip"]
    ran = looked.result.configuration
    assert ran["how"]["augment"] == ran["teacher"]["how"]["augment"] == ["crop"], "left and right are mirror images"
    assert bare.result.evidence == {}


@pytest.mark.real
@pytest.mark.parametrize("name", ["main-job-paper", "badnets-cifar10", "trojan-cifar10"])
def test_a_committed_victim_still_measures_what_its_card_says(name):
    if not os.environ.get("NAD_DATA"):
        pytest.skip("NAD_DATA does not point at the real images")
    loaded = load(ZOO / name)
    dataset = nad.load(str(Path(os.environ["NAD_DATA"]) / "cifar10-jpeg"))
    attack = attack_on(loaded, "card")
    result = evaluate_checkpoint(loaded, dataset, attack, Run())
    assert result.data["test"]["fingerprint"] == loaded.card.data["test"]["fingerprint"]
    for name in ("acc", "acc_nt", "asr", "ra"):
        assert getattr(result.after, name).rate == pytest.approx(loaded.card.metrics[name], abs=0.005), name


@pytest.mark.real
def test_an_aggressive_rate_erases_badnets_on_real_images_and_a_gentle_one_does_not():
    if not os.environ.get("NAD_DATA"):
        pytest.skip("NAD_DATA does not point at the real images")
    loaded = load(ZOO / "main-job-strong")
    dataset = nad.load(str(Path(os.environ["NAD_DATA"]) / "cifar10-jpeg"))
    methods = [Defense.parse(f"finetune:lr={lr},epochs=6") for lr in (0.1, 0.01)]
    attack = nad.Attack.parse(loaded.card.attack, trusted=False)
    hard, gentle = purify_checkpoint(loaded, dataset, methods, Run(seed=103), Terms(clean=0.05, attack=attack))
    assert hard.result.after.asr.rate < 0.3
    assert gentle.result.after.asr.rate > 0.7


@pytest.mark.parametrize("takes", ["purify", "evaluate", "detect", "call"])
def test_what_is_no_image_set_is_refused_with_what_to_give(victim, dataset, takes):
    given = {
        "purify": lambda: nad.purify(victim.model, dataset, "clp"),
        "evaluate": lambda: nad.evaluate(victim.model, dataset),
        "detect": lambda: DETECTORS.create("universal")(victim.model, dataset),
        "call": lambda: Defense.parse("clp")(victim.model, dataset),
    }
    with pytest.raises(NadError, match=r"expected an ImageSet, got Dataset; its \.train and \.test are such"):
        given[takes]()


def test_an_evaluation_takes_an_attack_by_its_specification(victim, dataset):
    by_name = nad.evaluate(victim.model, dataset.test, "badnets:target=1")
    assert by_name == nad.evaluate(victim.model, dataset.test, BadNets(target=1))
    assert by_name.asr is not None


@pytest.mark.parametrize("method", [None, ["clp"], nad.NAD])
def test_a_method_that_is_neither_one_nor_its_specification_is_refused(victim, dataset, method):
    with pytest.raises(NadError, match="expected a defense or its specification, name:key=value, got"):
        nad.purify(victim.model, dataset.train, method)


@pytest.mark.parametrize(("pixels", "labels"), [("array", "tensor"), ("tensor", "array"), ("tensor", "list")])
def test_images_that_are_no_tensors_are_refused(pixels, labels):
    made = {
        "tensor": lambda one: one,
        "array": lambda one: one.numpy(),
        "list": lambda one: one.tolist(),
    }
    x, y = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(NadError, match=r"expected (pixels|labels) as a torch tensor, got (ndarray|list)"):
        nad.ImageSet(made[pixels](x), made[labels](y), ("a", "b"))
