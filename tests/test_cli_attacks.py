"""Commands that plant and show backdoors, and the attack that a card records."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from nad.attacks import Attack
from nad.data import sources
from nad.models.card import Card
from nad.models.checkpoints import save
from nad.models.create import create
from nad.runtime import Run

pytestmark = pytest.mark.usefixtures("brief_evidence")

if TYPE_CHECKING:
    from conftest import Nad

TRAINED = ("--model", "wrn-10-1", "--regime", "paper", "--epochs", 2)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret place") / "sun.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def planted(nad: "Nad", tiny: Path, picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a backdoor whose trigger is a picture of the user's."""
    out = tmp_path_factory.mktemp("planted") / "out"
    ran = nad("train", "--data", tiny, *TRAINED, "--attack", f'custom:image="{picture}",target=1', "--out", out)
    assert ran.code == 0, ran.err
    return out


def test_a_card_rebuilds_the_trigger_without_the_file_it_came_from(nad: "Nad", tiny: Path, planted: Path) -> None:
    ran = nad("evaluate", planted, "--data", tiny, "--attack", "card", "--json")
    trained = json.loads((planted / "result.json").read_text())["after"]
    assert ran.json["after"]["counts"] == trained["counts"]
    assert trained["asr"] is not None


def test_a_card_names_no_file(planted: Path, picture: Path) -> None:
    texts = [p.read_text() for p in planted.iterdir() if p.suffix == ".json"]
    assert not any(str(picture.parent) in text for text in texts)
    assert "sun.png" not in json.loads((planted / "model.json").read_text())["attack"]


def test_a_purified_network_keeps_the_trigger_for_whoever_evaluates_it(
    nad: "Nad", tiny: Path, planted: Path, tmp_path: Path
) -> None:
    method = ("--method", "finetune:lr=0.01,epochs=1,batch=32", "--clean", 0.5)
    ran = nad("purify", planted, "--data", tiny, *method, "--attack", "card", "--out", tmp_path / "out", "--json")
    again = nad("evaluate", tmp_path / "out", "--data", tiny, "--attack", "card", "--json")
    assert again.json["after"]["counts"] == ran.json["after"]["counts"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"attack": "custom:function=/tmp/evil.py:go"}, "function is refused in a specification that comes from a"),
        ({"attack": "custom:image=/etc/passwd"}, "image is refused in a specification that comes from a file"),
        ({"attack": "nonsense"}, "unknown attack 'nonsense'"),
        ({"attack": None}, "has no card that records an attack"),
        ({"trigger_sha256": "0" * 64}, "is not the file its card describes"),
        ({"trigger_sha256": "../../x"}, "trigger_sha256 expects 64 hexadecimal digits"),
    ],
)
def test_a_card_that_wants_more_is_refused(
    nad: "Nad", tiny: Path, planted: Path, tmp_path: Path, change: dict[str, str], match: str
) -> None:
    shutil.copytree(planted, tmp_path / "net")
    card = tmp_path / "net" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    ran = nad("evaluate", tmp_path / "net", "--data", tiny, "--attack", "card")
    assert (ran.code, ran.out) == (2, "")
    assert match in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_trigger_is_named(nad: "Nad", tiny: Path, planted: Path, tmp_path: Path) -> None:
    shutil.copytree(planted, tmp_path / "net")
    (tmp_path / "net" / "trigger.safetensors").unlink()
    ran = nad("evaluate", tmp_path / "net", "--data", tiny, "--attack", "card")
    assert ran.code == 2
    assert "its card needs trigger.safetensors beside it" in ran.err


def test_poisoning_writes_images_that_load_and_a_manifest_that_rebuilds_them(
    nad: "Nad", tiny: Path, tmp_path: Path
) -> None:
    how = ("--data", tiny, "--attack", "badnets:target=1,rate=0.25", "--seed", 3)
    ran = nad("poison", *how, "--out", tmp_path / "out", "--json")
    manifest = ran.json
    clean, written = sources.load(str(tiny)), sources.load(str(tmp_path / "out"))
    assert written.classes == clean.classes
    assert manifest["data"]["poisoned"]["fingerprint"] == written.train.decoded().fingerprint
    assert manifest["data"]["clean"]["fingerprint"] == clean.train.decoded().fingerprint
    assert clean.test is not None
    assert written.test is not None
    assert written.test.decoded().fingerprint == clean.test.decoded().fingerprint

    again = Attack.parse(manifest["attack"], trusted=False).poison(clean.train.decoded(), Run(manifest["attack_seed"]))
    assert again.fingerprint == written.train.decoded().fingerprint
    assert again.poisoned is not None
    assert manifest["indices"] == again.poisoned.nonzero().flatten().tolist()
    assert manifest["labels"] == [1] * len(manifest["indices"])
    assert manifest["true_labels"] == clean.train.labels[manifest["indices"]].tolist()

    triggered = sources.load(str(tmp_path / "out" / "triggered" / "test.parquet")).train
    assert 1 not in triggered.labels.tolist()
    assert torch.equal(triggered.labels, clean.test.labels[clean.test.labels != 1])


def test_poisoning_with_a_fitted_trigger_keeps_it(nad: "Nad", tiny: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = nad("poison", "--data", tiny, "--attack", f'custom:image="{picture}",target=1', "--out", out)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("poisoned ")
    manifest = json.loads((out / "result.json").read_text())
    attack = Attack.parse(manifest["attack"], trusted=False)
    assert attack.fits
    assert safetensors.torch.load_file(out / "trigger.safetensors")
    assert str(picture.parent) not in (out / "result.json").read_text()


def test_showing_draws_a_picture(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert nad("show", "--data", tiny, "--attack", "blend:target=1", "--out", out, "--count", 4).out == f"wrote {out}\n"
    with Image.open(out) as sheet:
        assert sheet.width > sheet.height
    again = nad("show", "--data", tiny, "--attack", "blend", "--out", out)
    assert again.code == 2
    assert "is there already" in again.err


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("show --data {tiny} --attack badnets --out sheet.jpg", "expected --out FILE.png"),
        ("show --data {tiny} --attack badnets --out none/sheet.png", "there is no folder none"),
        ("show --data {tiny} --attack badnets:size=99 --out sheet.png", "99x99"),
        ("show --data {tiny} --attack badnest --out sheet.png", "did you mean badnets"),
        ("poison --data {tiny} --attack sig:rate=1,rate_of=all,target=1 --out out", "class 1 has 64; lower rate"),
        ("poison --data {tiny} --attack badnets:labels=clean,rate_of=non_target --out out", "use rate_of=target_class"),
        ("evaluate {victim} --data {tiny} --attack trojan", "trojan was not fitted"),
        ("poison --data {tiny} --attack cl:rate=0.9,rate_of=all,target=1 --out out", "class 1 has 64; lower rate"),
        ("poison --data {tiny} --attack trojan:size=17 --out out", "the trigger is 17x17"),
        ("poison --data {tiny} --attack cl:size=17,target=1 --out out", "the trigger is 17x17"),
        ("poison --data {tiny} --attack badnets:size=300000 --out out", "the trigger is 300000x300000"),
        ("poison --data {tiny} --attack custom:image={notes} --out out", "notes.png"),
        ("poison --data {tiny} --attack refool:reflections={empty} --out out", "is empty; expected pictures"),
        (
            "poison --data {tiny} --attack trojan:surrogate={other},network=wrn-10-1 --out out",
            "expected a surrogate for the 4 classes",
        ),
        ("bench zo", "did you mean zoo"),
        ("bench zoo --seed 3", "Unknown option: --seed"),
        ("bench zoo --only nothing", "no cell of zoo is called 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, match: str
) -> None:
    given = tmp_path / "given"
    here, empty, other, notes = tmp_path / "here", given / "empty", given / "other", given / "notes.png"
    for folder in (here, empty, other):
        folder.mkdir(parents=True)
    notes.write_text("no picture")
    network = create("wrn-10-1", 7)
    save(other, network, Card(architecture="wrn-10-1", classes=tuple("abcdefg")))
    monkeypatch.setenv("NAD_CACHE", str(given / "cache"))
    monkeypatch.chdir(here)
    ran = nad(*line.format(tiny=tiny, victim=victim, empty=empty, other=other, notes=notes).split())
    assert (ran.code, ran.out) == (2, "")
    assert match in ran.err
    assert ran.err.count("\n") <= 2
    assert not list(here.iterdir())
    assert not (given / "cache").exists(), "nothing is trained for what is then refused"


@pytest.mark.parametrize(
    "line",
    ["train --data {out} --model wrn-10-1", "poison --data {out} --attack badnets", "purify {victim} --data {out}"],
)
def test_a_result_never_replaces_the_images_it_is_made_from(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path, line: str
) -> None:
    out = tmp_path / "out"
    assert nad("poison", "--data", tiny, "--attack", "badnets:target=1", "--out", out).code == 0
    before = (out / "train.parquet").read_bytes()
    ran = nad(*line.format(out=out, victim=victim).split(), "--out", out, "--overwrite")
    assert ran.code == 2
    assert "holds the images, which is only ever read" in ran.err
    assert (out / "train.parquet").read_bytes() == before


def test_purifying_a_network_of_the_zoo_never_replaces_it(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(victim, tmp_path / "badnets-tiny")
    monkeypatch.setenv("NAD_ZOO", str(tmp_path))
    ran = nad("purify", "zoo:badnets-tiny", "--data", tiny, "--out", tmp_path / "badnets-tiny", "--overwrite")
    assert ran.code == 2
    assert "holds the checkpoint, which is only ever read" in ran.err


def test_the_manifest_of_wanet_tells_noise_from_backdoor(nad: "Nad", tiny: Path, tmp_path: Path) -> None:
    ran = nad("poison", "--data", tiny, "--attack", "wanet:target=1", "--out", tmp_path / "out", "--json")
    assert len(ran.json["indices"]) == 26 + 52
    assert len(ran.json["noise"]) == 52
    kept = [ran.json["indices"].index(i) for i in ran.json["noise"]]
    assert all(ran.json["labels"][k] == ran.json["true_labels"][k] for k in kept)
    backdoored = set(range(78)) - set(kept)
    assert {ran.json["labels"][k] for k in backdoored} == {1}


def test_the_bench_says_what_is_missing_and_what_failed(
    nad: "Nad", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAD_DATA", raising=False)
    ran = nad("bench", "zoo", "--only", "badnets-cifar10-2", "--data", tmp_path, "--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert "there are no images 'cifar10-jpeg' in " in ran.err
    (tmp_path / "cifar10-jpeg").mkdir()
    ran = nad("bench", "zoo", "--only", "badnets-cifar10-2", "--data", tmp_path, "--dry-run")
    assert ran.code == 2
    assert "badnets-cifar10-2: failed (cifar10-jpeg" in ran.out
    assert "1 of 1 cells failed: badnets-cifar10-2" in ran.err
    assert "the first one because: cifar10-jpeg" in ran.err


def test_the_zoo_is_listed(nad: "Nad", victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(victim, tmp_path / "badnets-tiny")
    monkeypatch.setenv("NAD_ZOO", str(tmp_path))
    ran = nad("list", "zoo")
    assert "zoo:badnets-tiny" in ran.out
    assert list(nad("list", "zoo", "--json").json) == ["zoo"]
    monkeypatch.setenv("NAD_ZOO", str(tmp_path / "none"))
    assert nad("list", "zoo").code == 2
    assert nad("list").code == 0
