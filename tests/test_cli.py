"""The command from end to end, as a user runs it."""

import csv
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nad import console
from nad.attacks import ATTACKS, Attack
from nad.console import curve_lines
from nad.data import sources
from nad.data.images import ImageSet
from nad.defenses import DEFENSES, Defense
from nad.models import create
from nad.pipeline.parts import defended
from nad.registry import options
from nad.results import FILES
from nad.runtime import Run

if TYPE_CHECKING:
    from conftest import Nad, Ran

ATTACK = "badnets:target=1"
FAST = "finetune:lr=0.1,epochs=1,batch=32"
NESTED = "nad:teacher=(finetune:lr=0.1),lr=0.01,beta=1"
BRIEF = NESTED + ",epochs=1,batch=32"
pytestmark = pytest.mark.usefixtures("brief_evidence")
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4))
        self.head = nn.Linear(8 * 4 * 4, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""


PURIFIED = {
    *("model.safetensors", "model.json", "result.json", "history.csv", "indices.json"),
    *("attention.png", "triggers.png", "report.html"),
}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def rates_agree_with_counts(metrics: dict[str, Any]) -> bool:
    """Every metric is the exact quotient of its counts, a fraction, or null together with them."""
    return all(
        metrics[name] is None if counts is None else metrics[name] == counts[0] / counts[1] and 0 <= metrics[name] <= 1
        for name, counts in metrics["counts"].items()
    )


@pytest.fixture(scope="module")
def purify(nad: "Nad", tiny: Path, victim: Path) -> "Nad":
    """Purify the victim with half of the training images."""

    def run(out: Path, *more: object, method: str = FAST) -> "Ran":
        return nad("purify", victim, "--data", tiny, "--clean", 0.5, "--method", method, "--out", out, *more)

    return run


@pytest.fixture(scope="module")
def purified(purify: "Nad", tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Ran]":
    """A folder with one purified network, and what the command that made it wrote."""
    folder = tmp_path_factory.mktemp("networks") / "purified"
    return folder, purify(folder, "--attack", ATTACK, "--json")


@pytest.fixture(scope="module")
def several(purify: "Nad", tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Ran]":
    """A folder of two purified networks, and what the command that made them wrote."""
    folder = tmp_path_factory.mktemp("networks") / "several"
    return folder, purify(folder, "--method", BRIEF, "--json")


# Training


def test_training_leaves_a_network_its_card_and_the_evidence(victim: Path) -> None:
    assert names(victim) == {"model.safetensors", "model.json", "result.json", "history.csv", "indices.json"}
    card, result = read(victim / "model.json"), read(victim / "result.json")
    assert card["sha256"] == sha(victim / "model.safetensors")
    assert (card["architecture"], card["classes"]) == ("wrn-10-1", ["go", "left", "right", "stop"])
    assert Attack.parse(card["attack"]) == Attack.parse(result["attack"]) == Attack.parse(ATTACK)
    assert (card["size"], card["seed"], card["attack_seed"]) == ([16, 16], 0, 0)
    assert (card["recipe"]["epochs"], card["recipe"]["augment"], card["recipe"]["shuffle"]) == (12, [], "once")
    assert card["metrics"] == result["after"]
    assert result["configuration"]["attack"]["rate"] == 0.1
    assert result["seconds"] > 0
    assert "before" not in result
    with (victim / "history.csv").open() as file:
        epochs = list(csv.DictReader(file))
    assert [int(e["epoch"]) for e in epochs] == list(range(1, 13))
    assert 0 < float(epochs[-1]["loss"]) < float(epochs[0]["loss"])
    poisoned = read(victim / "indices.json")["poisoned"]
    assert len(set(poisoned)) == 26  # a tenth of 256
    assert 0 <= min(poisoned) <= max(poisoned) < 256


def test_metrics_are_fractions_with_their_exact_counts(victim: Path) -> None:
    after = read(victim / "result.json")["after"]
    assert set(after) == {"acc", "acc_nt", "asr", "ra", "counts"}
    assert {name: of for name, (_, of) in after["counts"].items()} == {"acc": 80, "acc_nt": 60, "asr": 60, "ra": 60}
    assert rates_agree_with_counts(after)
    assert min(after["acc"], after["asr"]) > 0.9  # the network is good and the backdoor is in it


def test_the_weights_load_strictly_into_a_fresh_network(victim: Path) -> None:
    weights = safetensors.torch.load_file(victim / "model.safetensors")
    create.create("wrn-10-1", 4).load_state_dict(weights, strict=True)


def test_a_seed_gives_the_same_weights_again_and_another_gives_others(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        where = ("--data", tiny, "--model", "wrn-10-1", "--out", tmp_path / name)
        ran = nad("train", *where, "--epochs", 1, "--attack", ATTACK, "--seed", seed, "--json")
        assert ran.json["run"]["seed"] == seed
        found.append((read(tmp_path / name / "model.json")["sha256"], read(tmp_path / name / "indices.json")))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    assert found[0][1] != found[2][1]


@pytest.mark.parametrize(
    ("options", "augment", "epochs", "batch"),
    [
        (("--regime", "paper", "--epochs", 1), [], 1, 64),
        (("--regime", "strong", "--epochs", 1, "--augment", "none"), [], 1, 128),
        (("--epochs", 1, "--augment", "crop/cutout3"), ["crop", "cutout3"], 1, 128),
    ],
)
def test_the_regime_and_what_is_changed_of_it(
    nad: "Nad", tiny: Path, tmp_path: Path, options: tuple, augment: list[str], epochs: int, batch: int
) -> None:
    ran = nad("train", "--data", tiny, "--model", "wrn-10-1", "--out", tmp_path / "out", "--json", *options)
    recipe = ran.json["configuration"]["recipe"]
    assert (recipe["augment"], recipe["epochs"], recipe["batch"]) == (augment, epochs, batch)
    assert ran.json["attack"] is None
    assert ran.json["after"]["asr"] is None
    assert "indices.json" not in names(tmp_path / "out")  # every image is used and none is poisoned


def test_a_size_is_taken_where_it_is_said(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    ran = nad(
        "train", "--data", tiny, "--size", "8x12", "--model", "wrn-10-1", "--epochs", 1, "--out", tmp_path / "out"
    )
    assert ran.code == 0, ran.err
    assert read(tmp_path / "out" / "model.json")["size"] == [8, 12]


# Evaluating


def test_evaluating_finds_what_training_found(nad: "Nad", tiny: Path, victim: Path) -> None:
    found = nad("evaluate", victim, "--data", tiny, "--attack", ATTACK, "--json").json
    trained = read(victim / "result.json")
    assert found["after"] == trained["after"]
    assert found["data"]["test"] == trained["data"]["test"]


def test_evaluating_without_an_attack_gives_accuracy_alone(nad: "Nad", tiny: Path, victim: Path) -> None:
    after = nad("evaluate", victim / "model.safetensors", "--data", tiny, "--json").json["after"]
    assert after["acc"] == read(victim / "result.json")["after"]["acc"]
    assert (after["acc_nt"], after["asr"], after["ra"]) == (None, None, None)
    assert after["counts"]["asr"] is None


def test_a_backdoor_for_every_class_is_measured_on_all_images(nad: "Nad", tiny: Path, victim: Path) -> None:
    ran = nad("evaluate", victim, "--data", tiny, "--attack", "badnets:labels=all_to_all", "--json")
    assert ran.json["after"]["acc_nt"] is None
    assert (ran.json["after"]["counts"]["asr"][1], ran.json["after"]["counts"]["ra"][1]) == (80, 80)


# Purifying


def test_purifying_leaves_a_network_its_card_and_the_evidence(purified: "tuple[Path, Ran]", victim: Path) -> None:
    folder, ran = purified
    assert names(folder) == PURIFIED
    assert ran.json == read(folder / "result.json")
    assert ran.json["before"] == read(victim / "result.json")["after"]
    assert ran.json["after"]["asr"] < ran.json["before"]["asr"]
    assert rates_agree_with_counts(ran.json["before"])
    assert rates_agree_with_counts(ran.json["after"])
    assert Attack.parse(ran.json["attack"]) == Attack.parse(ATTACK)
    assert Defense.parse(ran.json["method"]) == Defense.parse(FAST + ",augment=crop")  # they differ in a mirror
    assert ran.json["configuration"]["name"] == "finetune"
    card = read(folder / "model.json")
    assert card["sha256"] == sha(folder / "model.safetensors")
    assert card["extra"] == {"purified_from": sha(victim / "model.safetensors")}
    assert card["metrics"] == {"before": ran.json["before"], "after": ran.json["after"]}


def test_what_is_purified_evaluates_to_what_was_reported(nad: "Nad", tiny: Path, purified: "tuple[Path, Ran]") -> None:
    folder, ran = purified
    assert nad("evaluate", folder, "--data", tiny, "--attack", ATTACK, "--json").json["after"] == ran.json["after"]


def test_data_are_recorded_by_name_count_and_fingerprint(purified: "tuple[Path, Ran]", tiny: Path) -> None:
    folder, ran = purified
    original = sources.load(str(tiny))
    assert original.test is not None
    clean = original.train.subset(torch.tensor(read(folder / "indices.json")["clean"]))
    assert ran.json["data"] == {
        "clean": {"name": "tiny train", "count": 128, "fingerprint": clean.fingerprint},
        "test": {"name": "tiny test", "count": 80, "fingerprint": original.test.fingerprint},
    }
    assert clean.counts() == [32] * 4


def test_a_twentieth_is_the_default(nad: "Nad", tiny: Path, victim: Path, tmp_path: Path) -> None:
    method = "finetune:lr=0.01,epochs=1,batch=8"
    ran = nad("purify", victim, "--data", tiny, "--method", method, "--out", tmp_path / "out", "--json")
    assert ran.json["data"]["clean"]["count"] == 13


def test_images_that_do_not_fit_are_streamed_to_the_same_end(
    nad: "Nad", unsplit: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(name: str) -> str:
        more = ("--method", BRIEF, "--budget", 0, "--out", tmp_path / name)
        assert nad("purify", victim, "--data", unsplit, *more).code == 0
        return sha(tmp_path / name / "model.safetensors")

    held = weights("held")
    resident: list[bool] = []
    fed = ImageSet.to
    monkeypatch.setattr(ImageSet, "to", lambda self, device: resident.append(self.resident) or fed(self, device))
    for module in ("images", "sources", "arrays", "parquet"):
        monkeypatch.setattr(f"nad.data.{module}.RESIDENT_BYTES", 0)
    assert weights("streamed") == held
    assert resident
    assert not any(resident)


def test_several_methods_get_a_folder_each_and_one_table(several: "tuple[Path, Ran]") -> None:
    folder, ran = several
    assert names(folder) == {"1-finetune", "2-nad", "result.json", "report.html"}
    assert isinstance(ran.json, list)
    assert ran.json == read(folder / "result.json")
    for name, result in zip(("1-finetune", "2-nad"), ran.json):
        assert names(folder / name) == PURIFIED
        assert result.pop("folder") == name
        assert result.pop("comparison")["max_drop"] == 0.08
        assert read(folder / name / "result.json") == result
        assert result["configuration"]["name"] == name[2:]
        assert read(folder / name / "model.json")["sha256"] == sha(folder / name / "model.safetensors")
    assert ran.json[0]["before"] == ran.json[1]["before"]
    assert ran.json[0]["data"] == ran.json[1]["data"]
    assert sha(folder / "1-finetune" / "model.safetensors") != sha(folder / "2-nad" / "model.safetensors")


def test_how_much_accuracy_may_be_lost_is_said_once_for_all(purify: "Nad", tmp_path: Path) -> None:
    methods = ("--method", "finetune:lr=0.1,epochs=1,batch=32,max_drop=0.3", "--max-drop", 0.02, "--budget", 0)
    ran = purify(tmp_path / "out", *methods, method=BRIEF)
    nad, finetune = read(tmp_path / "out" / "result.json")
    assert "max_drop=0.3" in finetune["method"], "what a method says itself counts"
    assert nad["method"].count("max_drop=0.02") == 2, "the teacher's too"
    assert nad["comparison"] == finetune["comparison"]
    assert not nad["comparison"]["marked"]
    assert nad["comparison"]["why"] in " ".join(ran.out.split())
    ran = purify(tmp_path / "more", "--max-drop", 1)
    assert ran.code == 2
    assert ran.err == "nad: expected --max-drop of at least 0 and less than 1, a fraction, got 1\n"


def test_a_method_gives_the_same_alone_and_after_another(
    several: "tuple[Path, Ran]", purify: "Nad", tmp_path: Path
) -> None:
    assert purify(tmp_path / "out", method=BRIEF).code == 0
    assert sha(tmp_path / "out" / "model.safetensors") == sha(several[0] / "2-nad" / "model.safetensors")


def test_the_attack_is_only_for_evaluation(
    purified: "tuple[Path, Ran]", several: "tuple[Path, Ran]", purify: "Nad", tmp_path: Path
) -> None:
    pairs = [(purified[0], several[0] / "1-finetune")]  # with and without --attack
    ran = purify(tmp_path / "nad", "--attack", "badnets:target=2,low=128", "--json", method=BRIEF)
    assert ran.json["after"]["asr"] is not None
    pairs.append((tmp_path / "nad", several[0] / "2-nad"))
    for told, untold in pairs:
        assert (told / "model.safetensors").read_bytes() == (untold / "model.safetensors").read_bytes()
        assert read(told / "indices.json") == read(untold / "indices.json")
    assert several[1].json[0]["attack"] is None
    assert several[1].json[0]["before"]["asr"] is None


def test_a_backdoor_is_brought_back_on_request_and_only_in_a_copy(
    purified: "tuple[Path, Ran]", purify: "Nad", tmp_path: Path
) -> None:
    ran = purify(tmp_path / "again", "--attack", ATTACK, "--reactivate")
    result, plain = (read(folder / "result.json") for folder in (tmp_path / "again", purified[0]))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (purified[0] / "model.safetensors").read_bytes()
    assert result["after"] == plain["after"]
    assert result["reactivated"]["asr"] > result["after"]["asr"], "five triggered pictures teach it again"
    assert rates_agree_with_counts(result["reactivated"])
    assert "reactivated" not in plain
    assert f"{100 * result['reactivated']['asr']:.2f} %" in ran.out
    assert "re-activated" in ran.out
    assert "re-activated with a few triggered pictures" in (tmp_path / "again" / "report.html").read_text()


def test_only_a_trigger_that_is_known_can_be_brought_back(purify: "Nad", tmp_path: Path) -> None:
    ran = purify(tmp_path / "out", "--reactivate")
    assert ran.code == 2
    assert ran.said.endswith("--reactivate brings a backdoor back whose trigger is known; say which with --attack\n")
    assert not (tmp_path / "out").exists()


def test_the_checkpoint_is_only_read(purify: "Nad", victim: Path, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in victim.iterdir()}

    before = state()
    assert purify(tmp_path / "out").code == 0
    assert state() == before


def test_a_seed_draws_the_same_clean_images_and_weights_again(
    purified: "tuple[Path, Ran]", purify: "Nad", tmp_path: Path
) -> None:
    for name, seed, same in (("same", 0, True), ("other", 1, False)):
        assert purify(tmp_path / name, "--seed", seed).code == 0
        for file in ("model.safetensors", "indices.json"):
            assert (sha(tmp_path / name / file) == sha(purified[0] / file)) is same


def test_a_nested_method_reaches_the_result(several: "tuple[Path, Ran]") -> None:
    result = several[1].json[1]
    assert (result["configuration"]["lr"], result["configuration"]["beta"]) == (0.01, [1.0])
    assert (result["configuration"]["teacher"]["name"], result["configuration"]["teacher"]["lr"]) == ("finetune", 0.1)
    assert "teacher=(finetune:lr=0.1)" in result["method"]
    assert result["notes"]["stages"] == ["block1", "block2", "block3"]
    with (several[0] / "2-nad" / "history.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    assert all(float(epoch[f"attention_{i}"]) > 0 for i in (1, 2, 3))


def test_a_choice_keeps_its_whole_curve_and_says_what_it_chose(purify: "Nad", tmp_path: Path) -> None:
    ran = purify(tmp_path / "out", method="finetune:epochs=1,batch=32,folds=1")
    note = read(tmp_path / "out" / "result.json")["notes"]["lr"]
    assert [point["setting"] for point in note["curve"]] == [0.01, 0.02, 0.05, 0.1, 0.2][: len(note["curve"])]
    assert note["chosen"] in [point["setting"] for point in note["curve"]]
    assert 0 < note["held_out"] < 128
    assert f"lr: chose {note['chosen']} on {note['held_out']} held-out images" in ran.out


# Networks from elsewhere


def own_network(tmp_path: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """The user's own architecture in own.py, and its weights as a training script on several GPUs saves them."""
    (tmp_path / "own.py").write_text(OWN)
    spec = importlib.util.spec_from_file_location("own", tmp_path / "own.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # chance can make a network that seems to have its classes in another order
        net = nn.DataParallel(module.Net(4))
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    torch.save({"epoch": 7, "state_dict": weights, "best": 0.5}, tmp_path / "own.pth.tar")
    return net, weights


def test_a_plain_state_dict_goes_back_into_the_users_own_network(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    net, weights = own_network(tmp_path)
    how = ("--model", f"{tmp_path}/own.py:Net", "--data", tiny)
    method = ("--method", FAST, "--clean", 0.5, "--format", "pt")
    ran = nad("purify", tmp_path / "own.pth.tar", *how, *method, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "'module.'" in ran.err  # what was done to the keys is told
    assert "model.safetensors" not in names(tmp_path / "out")
    state = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert isinstance(state, dict)
    assert list(state) == list(weights)
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {k: (v.shape, v.dtype) for k, v in weights.items()}
    net.load_state_dict(state, strict=True)
    assert not torch.equal(state["module.head.weight"], weights["module.head.weight"])
    after = nad("evaluate", tmp_path / "out", *how, "--json").json["after"]
    assert after == read(tmp_path / "out" / "result.json")["after"]


def test_the_formats_hold_the_same_weights(purified: "tuple[Path, Ran]", purify: "Nad", tmp_path: Path) -> None:
    assert purify(tmp_path / "out", "--format", "pt").code == 0
    plain = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    tensors = safetensors.torch.load_file(purified[0] / "model.safetensors")
    assert plain.keys() == tensors.keys()
    assert all(torch.equal(plain[key], tensors[key]) for key in plain)


# A folder without splits


def test_without_splits_a_stratified_fifth_is_kept_for_the_report(
    nad: "Nad", unsplit: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[ImageSet] = []
    monkeypatch.setattr(DEFENSES["finetune"], "erase", _watched(DEFENSES["finetune"].erase, given))
    ran = nad("purify", victim, "--data", unsplit, "--method", FAST, "--out", tmp_path / "out", "--json")
    indices, original = read(tmp_path / "out" / "indices.json"), sources.load(str(unsplit)).train
    used, reported = indices["used"], indices["reported"]
    assert not set(used) & set(reported)
    assert sorted(used + reported) == list(range(100))
    assert Counter(original.labels[reported].tolist()) == {0: 5, 1: 5, 2: 5, 3: 5}
    fingerprints = [original.subset(torch.tensor(rows)).decoded().fingerprint for rows in (used, reported)]
    assert [ran.json["data"][role]["fingerprint"] for role in ("clean", "test")] == fingerprints
    assert ran.json["after"]["counts"]["acc"][1] == 20
    assert [images.fingerprint for images in given] == fingerprints[:1]  # the defense saw the rest, all of it, once


def _watched(erase: Any, given: list[ImageSet]) -> Any:
    def watched(self: Any, model: nn.Module, images: ImageSet, run: Any) -> Any:
        given.append(images)
        return erase(self, model, images, run)

    return watched


def test_few_pictures_are_one_batch(nad: "Nad", unsplit: Path, victim: Path, tmp_path: Path) -> None:
    how = ("--data", unsplit, "--budget", 0, "--method", "finetune:lr=0.01,epochs=1,batch=128")
    ran = nad("purify", victim, *how, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    few = "80 pictures to train on are few: where they do not fill a batch of finetune, they are one, for twice"
    assert f"note: {few} the epochs" in ran.err
    assert "No search for triggers was made that can tell" in ran.out, "the report's headline"
    result = read(tmp_path / "out" / "result.json")
    assert (result["configuration"]["batch"], result["configuration"]["epochs"]) == (80, 2)
    assert result["evidence"]["intake"]["findings"][-1]["text"].startswith("80 pictures")


def test_training_without_splits_keeps_the_same_fifth_out(nad: "Nad", unsplit: Path, tmp_path: Path) -> None:
    where = ("--data", unsplit, "--model", "wrn-10-1", "--out", tmp_path / "out")
    ran = nad("train", *where, "--epochs", 1, "--attack", ATTACK, "--json")
    indices = read(tmp_path / "out" / "indices.json")
    assert ran.json["data"]["train"]["count"] == len(indices["used"]) == 80
    assert ran.json["after"]["counts"]["acc"][1] == len(indices["reported"]) == 20
    assert len(indices["poisoned"]) == 8


# What is said, and what is not


def test_people_get_a_table_and_the_place(purify: "Nad", tmp_path: Path) -> None:
    ran = purify(tmp_path / "out", "--method", BRIEF, "--attack", ATTACK)
    for word in ("accuracy", "ASR", "recovered", "before", "finetune", "nad", "%", f"wrote {tmp_path / 'out'}"):
        assert word in ran.out
    result = read(tmp_path / "out" / "result.json")[0]
    assert f"{100 * result['before']['asr']:.2f} %" in ran.out
    assert ran.said == f"computed on {result['run']['device']} in {result['run']['precision']}, seed 0\n"
    assert "clean pictures right" in ran.err
    assert "sent there by" in ran.out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_that_is_asked_for_is_taken_and_stored(
    nad: "Nad", tiny: Path, victim: Path, precision: str
) -> None:
    how = ("--device", "cpu", "--precision", precision, "--seed", 5)
    ran = nad("evaluate", victim, "--data", tiny, *how, "--json")
    assert ran.json["run"] == {"seed": 5, "device": "cpu", "precision": precision}
    assert ran.err == ""
    assert nad("evaluate", victim, "--data", tiny, *how).said == f"computed on cpu in {precision}, seed 5\n"


def test_no_file_names_a_path_of_this_machine(
    victim: Path, purified: "tuple[Path, Ran]", several: "tuple[Path, Ran]", tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = [p for folder in (victim, purified[0], several[0]) for p in folder.rglob("*") if p.is_file()]
    texts = [p.read_text() for p in files if p.suffix in (".json", ".csv")]
    assert len(texts) == 17
    for place in {tmp_path_factory.getbasetemp(), Path.cwd(), Path.home()} - {Path("/")}:
        assert not any(str(place) in text for text in texts)


def test_a_teacher_from_a_file_is_recorded_without_its_path(purify: "Nad", victim: Path, tmp_path: Path) -> None:
    method = f"nad:teacher_checkpoint={victim},lr=0.01,beta=1,epochs=1,batch=32"
    ran = purify(tmp_path / "out", "--json", method=method)
    assert ran.json["configuration"]["name"] == "nad"
    assert str(victim.parent) not in "".join(p.read_text() for p in (tmp_path / "out").glob("*.json"))


def test_a_model_from_a_file_is_recorded_without_its_path(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    own_network(tmp_path)
    how = ("--model", f"{tmp_path}/own.py:Net", "--data", tiny, "--method", FAST, "--clean", 0.5)
    ran = nad("purify", tmp_path / "own.pth.tar", *how, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert str(tmp_path) not in "".join(p.read_text() for p in (tmp_path / "out").glob("*.json"))


def test_every_file_that_is_written_is_known_as_a_result(victim: Path, several: "tuple[Path, Ran]") -> None:
    written = {p.name for folder in (victim, several[0]) for p in folder.rglob("*") if p.is_file()}
    assert written <= FILES  # else --overwrite would refuse its own folders


def test_class_names_never_reach_the_terminal_as_they_are(nad: "Nad", victim: Path, tmp_path: Path) -> None:
    hostile = np.array(["[red]a[/red]", "\x1b[31mb", "\x9b2Jc", "\u202ed\n:smile:"])
    labels = np.arange(64) % 4
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "hostile.npz", images=images, labels=labels, classes=hostile)
    where = ("--data", tmp_path / "hostile.npz", "--out", tmp_path / "out")
    for ran in (
        nad("train", *where, "--model", "wrn-10-1", "--epochs", 1),
        nad("purify", tmp_path / "out", *where[:2], "--method", "finetune:lr=0.01,epochs=1", "--out", tmp_path / "p"),
        nad("evaluate", tmp_path / "out", *where[:2]),
    ):
        assert not any(c in ran.out + ran.err for c in "\x1b\x9b\u202e")
    assert read(tmp_path / "out" / "model.json")["classes"] == ["[red]a[/red]", "?[31mb", "?2Jc", "?d?:smile:"]


# Listing


def test_everything_that_can_be_named_is_listed_with_its_options(nad: "Nad") -> None:
    ran = nad("list")
    assert ran.code == 0
    assert ran.err == ""
    for kind, registry in (("attack", ATTACKS), ("defense", DEFENSES)):
        for name in registry:
            about = ran.out.partition(f"{kind} {name}: ")[2].partition("\n\n")[0]
            for one in options(registry[name]):
                row = next(line for line in about.splitlines() if line.startswith(f"{one.name} "))
                assert one.kind.split("|")[0].split()[0] in row
    for name in (*create.NAMES, *sources.NAMES):
        assert name in ran.out


@pytest.mark.parametrize(
    ("kind", "there", "missing"),
    [
        ("attacks", "badnets", "finetune"),
        ("defenses", "finetune", "badnets"),
        ("models", "preactresnet18", "cifar10"),
        ("data", "cifar10", "preactresnet18"),
    ],
)
def test_one_kind_can_be_listed_alone(nad: "Nad", kind: str, there: str, missing: str) -> None:
    ran = nad("list", kind)
    assert there in ran.out
    assert missing not in ran.out
    assert list(nad("list", kind, "--json").json) == [kind]


def test_the_list_as_json_has_every_option_with_its_default(nad: "Nad") -> None:
    listed = nad("list", "--json").json
    assert set(listed) == {"attacks", "defenses", "detectors", "models", "data", "zoo", "grids"}
    assert set(listed["defenses"]) == set(DEFENSES)
    for kind, registry in (("attacks", ATTACKS), ("defenses", DEFENSES)):
        for name in registry:
            assert listed[kind][name] == [vars(one) for one in options(registry[name])]
            assert all(one["help"] and one["kind"] for one in listed[kind][name])
    rate = next(one for one in listed["attacks"]["badnets"] if one["name"] == "rate")
    assert (rate["default"], rate["kind"]) == ("0.1", "a number")


# The same in a process of its own


def process(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*args], cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)


def test_help_lists_the_commands(tmp_path: Path) -> None:
    ran = process(sys.executable, "-m", "nad", "--help", cwd=tmp_path)
    assert ran.returncode == 0
    assert ran.stderr == ""
    for name in ("train", "purify", "evaluate", "demo", "list", "data"):
        assert f" {name} " in ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="quotes as a Unix shell reads them")
def test_a_nested_method_from_a_shell(several: "tuple[Path, Ran]", tiny: Path, victim: Path, tmp_path: Path) -> None:
    line = (
        f"'{sys.executable}' -m nad purify '{victim}' --data '{tiny}' --clean 0.5 --out out --json --method '{BRIEF}'"
    )
    ran = process("/bin/sh", "-c", line, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert all(line.startswith(("good: ", "warning: ", "note: ", "pixels ")) for line in ran.stderr.splitlines())
    result = json.loads(ran.stdout)  # fails if there is anything else on standard output
    assert result["configuration"]["teacher"]["lr"] == 0.1
    assert result == read(tmp_path / "out" / "result.json")
    assert names(tmp_path) == {"out"}
    assert sha(tmp_path / "out" / "model.safetensors") == sha(several[0] / "2-nad" / "model.safetensors")


def test_a_network_that_is_read_otherwise_than_its_card_says_is_written_so(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path
) -> None:
    """The card of what comes out names the architecture that it was loaded with."""
    own_network(tmp_path)
    (tmp_path / "own.py").write_text(
        "from nad.models.create import create\n\n\ndef net(classes):\n    return create('wrn-10-1', classes)\n"
    )
    how = ("--model", f"{tmp_path}/own.py:net", "--data", tiny, "--method", FAST, "--clean", 0.5)
    ran = nad("purify", victim, *how, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert read(tmp_path / "out" / "model.json")["architecture"] == "own.py:net"


def test_a_drop_that_bounds_nothing_is_said(purify: "Nad", tmp_path: Path) -> None:
    ran = purify(tmp_path / "one", "--max-drop", 0.5, "--budget", 0)
    assert "chooses nothing on held-out images, so --max-drop bounds nothing of it" in " ".join(ran.out.split())
    ran = purify(tmp_path / "two", "--max-drop", 0, "--budget", 0, method="finetune:lr=1,epochs=1,batch=32")
    assert "points of accuracy, --max-drop is 0" in " ".join(ran.out.split())


def test_copies_of_a_picture_are_not_reported_on(unsplit: Path, tmp_path: Path) -> None:
    shutil.copytree(unsplit, tmp_path / "twice")
    for picture in list((tmp_path / "twice").glob("*/*.png")):
        shutil.copy(picture, picture.with_name(f"copy-{picture.name}"))
    once, twice = (defended(sources.load(str(folder)), Run(3), None) for folder in (unsplit, tmp_path / "twice"))
    assert (len(twice.train), len(twice.test)) == (2 * len(once.train), 2 * len(once.test)) == (160, 40)
    used, reported = ({row.numpy().tobytes() for row in part.pixels} for part in (twice.train, twice.test))
    assert not used & reported


def test_notes_of_what_is_nested_are_said() -> None:
    chosen = {"lr": {"chosen": 0.1, "held_out": 20}}
    assert curve_lines({"first": {"eps": {"chosen": 0.05}}, "then": chosen | {"teacher": chosen}}) == [
        "first, eps: chose 0.05",
        "then, lr: chose 0.1 on 20 held-out images",
        "then, teacher, lr: chose 0.1 on 20 held-out images",
    ]


def test_a_usage_error_names_the_help_of_its_command(nad: "Nad") -> None:
    assert nad("purify", "x", "--data", "signs").err == "nad: --out is missing\nTry: nad purify --help\n"
    assert "--out requires an argument" in nad("purify", "x", "--data", "signs", "--out").err
    assert nad("--nothing").err.endswith("Try: nad --help\n")


def test_a_choice_is_told_with_what_it_costs_and_what_the_next_would():
    curve = [
        {"setting": 0.01, "accuracy": 0.9, "drop": 0.0, "accepted": True},
        {"setting": 0.05, "accuracy": 0.84, "drop": 0.06, "accepted": True},
        {"setting": 0.1, "accuracy": 0.7, "drop": 0.2, "accepted": False},
        {"setting": 0.2, "accuracy": 0.1, "drop": 0.8, "accepted": False},
    ]
    note = {"chosen": 0.05, "held_out": 1200, "max_drop": 0.08, "curve": curve}
    assert curve_lines({"lr": note}) == [
        "lr: chose 0.05 on 1,200 held-out images: 6.0 points lost of 8 allowed; 0.1 loses 20.0"
    ]
    assert curve_lines({"beta": note | {"unit": "times the released betas, here 1/2", "max_drop": 0.05}}) == [
        "beta: chose 0.05 times the released betas, here 1/2 on 1,200 held-out images: "
        "6.0 points lost of 5 allowed and what chance may add; 0.1 loses 20.0"
    ]
    exact = [{"setting": 1, "accuracy": 0.874, "drop": 0.08000000000000002, "accepted": True}]
    (line,) = curve_lines({"ratio": {"chosen": 1, "held_out": 500, "max_drop": 0.08, "curve": exact}})
    assert line.endswith("8.0 points lost of 8 allowed"), "an exact drop is no chance"
    note = {"chosen": "0.3 of the usual", "held_out": 20, "max_drop": 0.08}
    note["curve"] = [
        {"setting": "the usual", "accuracy": 0.5, "drop": 0.2, "accepted": False},
        {"setting": "0.3 of the usual", "accuracy": 0.7, "drop": 0.0, "accepted": True},
    ]
    assert curve_lines({"learning rates": note}) == [
        "learning rates: chose 0.3 of the usual on 20 held-out images: 0.0 points lost of 8 allowed; "
        "the usual loses 20.0"
    ]
    usual = {"setting": "the usual", "drop": 0.02, "accepted": True}
    note |= {"chosen": "the usual", "curve": [usual], "untried": ["0.3 of the usual"]}
    assert curve_lines({"learning rates": note})[0].endswith("lost of 8 allowed; 0.3 of the usual was not needed")
    better = [{"setting": 1, "accuracy": 0.9, "drop": -0.066, "accepted": True}]
    counted = {"given_accuracy": 0.79, "control_accuracy": 0.71, "reference_accuracy": 0.71}
    assert curve_lines({"lr": {"chosen": 1, "held_out": 500, "max_drop": 0.08, "curve": better} | counted}) == [
        "lr: chose 1 on 500 held-out images: 6.6 points gained where 8 may be lost; counted from the mildest training, "
        "which alone loses 8.0"
    ]


def test_what_the_library_tells_meanwhile_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("nad.defenses.choosing")
    with console.progress(quiet=True):
        library.info("lr, 0.1: %d of 16 held-out [red]images right\x1b", 8)
        library.debug("lr, 0.2: 9 of 16")
    library.info("after all is done")
    assert capsys.readouterr().err == "lr, 0.1: 8 of 16 held-out [red]images right?\n"


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "EVERY", 0)
    with console.progress(quiet=True) as report:
        report("training", 2, 1000, "loss 0.5")
        report("training", 1000, 1000, "")
        report("choosing lr", 0, 5, "0.1, part 1 of 5")
        report("training", 3, 1000, "")
    assert capsys.readouterr().err.splitlines() == [
        "training: 2 of 1,000, loss 0.5",
        "training: 1,000 of 1,000",
        "choosing lr: 0 of 5, 0.1, part 1 of 5",
        "choosing lr: 0 of 5, 0.1, part 1 of 5; training: 3 of 1,000",
    ]
    ticks = iter(range(0, 1000, 60))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(ticks)))
    with console.progress(quiet=True) as report:
        for done in (10, 20, 40, 40):
            report("training", done, 100, "")
    assert capsys.readouterr().err.splitlines() == [
        "training: 10 of 100",
        "training: 20 of 100, about 8 min left",
        "training: 40 of 100, about 4 min left",
        "training: 40 of 100, about 6 min left",
    ]
    with console.progress(quiet=True) as report:
        for what, done in (
            ("choosing lr", 0),
            ("training", 50),
            ("training", 75),
            ("training", 100),
            ("choosing lr", 50),
        ):
            report(what, done, 100, "")
    assert capsys.readouterr().err.splitlines()[2::2] == [
        "choosing lr: 0 of 100; training: 75 of 100, about 1 min left of this part",
        "choosing lr: 50 of 100, about 4 min left",
    ], "a part is not taken for the whole"
    monkeypatch.undo()
    monkeypatch.setattr(console, "EVERY", 60)
    with console.progress(quiet=True) as report:
        report("training", 2, 1000, "")
    assert capsys.readouterr().err == ""


def test_a_table_in_a_pipe_keeps_names_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    heads = [f"blend-cifar10-paper-{number}" for number in range(7)]
    console.options_table("", [["fine-pruning-alone"] * 7], heads)
    shown = capsys.readouterr().out
    assert all(head in shown for head in heads)
    monkeypatch.setenv("COLUMNS", "80")
    console.options_table("", [["fine-pruning-alone"] * 7], heads)
    assert not any(head in capsys.readouterr().out for head in heads)


def test_poisoning_without_a_test_split_says_what_is_not_written(nad: "Nad", unsplit: Path, tmp_path: Path) -> None:
    ran = nad("poison", "--data", unsplit, "--attack", "badnets:target=1", "--out", tmp_path / "out")
    assert "there is no test split, so neither test nor triggered test images are written" in ran.out
