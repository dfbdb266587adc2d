"""Pictures labelled by the network itself."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nad.data.gallery import gallery, unlabelled
from nad.data.images import ImageSet
from nad.data.labelling import RISK, Labelling
from nad.data.sources import Dataset
from nad.errors import NadError
from nad.models.checkpoints import Loaded
from nad.pipeline import labelled, labelling
from nad.runtime import Run

METHOD = ("--method", "finetune:epochs=1,lr=0.01,batch=16")


class Told(nn.Module):
    """A network of three classes that is as sure of the class in the red value as the green value says, in percent."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        answer, sure = ((x[:, c, 0, 0] * 255).round() for c in (0, 1))
        odds = torch.log(sure / 100 / ((1 - sure / 100) / 2))
        return nn.functional.one_hot(answer.long(), 3) * odds[:, None] + 0 * self.unused


def told(*pairs: tuple[int, int]) -> Dataset:
    pixels = torch.zeros(len(pairs), 3, 4, 4, dtype=torch.uint8)
    for row, (answer, sure) in enumerate(pairs):
        pixels[row, 0], pixels[row, 1] = answer, sure
    return Dataset("some", ImageSet(pixels, torch.zeros(len(pairs), dtype=torch.int64), ("a", "b", "c")), None)


def test_only_pictures_that_the_network_is_sure_of_are_kept():
    loaded, made = labelled(
        Loaded(Told(), "told", 3, None, {}),
        told((2, 95), (1, 85), (0, 91), (1, 99), (1, 50), (2, 89)),
        Run(precision="fp32"),
    )
    assert made.train.labels.tolist() == [2, 0, 1]
    assert made.train.pixels[:, 1, 0, 0].tolist() == [95, 91, 99]
    how = made.labelling
    assert (how.confidence, how.kept, how.dropped) == (0.9, (1, 1, 1), (0, 2, 1))
    assert loaded.notes == (how.told(), f"warning: {RISK}")


def test_the_network_answers_in_the_precision_that_suits_it(monkeypatch):
    class Depthwise(Told):
        def __init__(self) -> None:
            super().__init__()
            self.each, self.seen = nn.Conv2d(3, 3, 1, groups=3), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(self.each(x).dtype)
            return super().forward(x)

    monkeypatch.setattr("nad.runtime._multiplies_in_bf16", lambda device: True)
    network = Depthwise()
    labelled(Loaded(network, "told", 3, None, {}), told((2, 95), (0, 91)), Run(device="cpu"))
    assert set(network.seen) == {torch.float32}


def test_what_was_kept_and_dropped_in_words():
    how = Labelling(0.9, (5, 0, 3), (0, 4, 1), ("a", "b\x1b[2J", "c"))
    assert how.told() == (
        "labelled by the network, where it is at least 90 % sure: 8 of 13 pictures kept, 5 dropped, "
        "of class b?[2J (4 of 4), c (1 of 4)"
    )
    many = Labelling(0.9, (0,) * 8, (1,) * 8, tuple("abcdefgh"))
    assert many.told().endswith("e (1 of 1) and 3 more")


@pytest.mark.parametrize("pairs", [((0, 95), (0, 99), (1, 50)), ((0, 50), (1, 60))])
def test_too_little_that_it_is_sure_of_is_refused(pairs):
    with pytest.raises(NadError, match=r"of \d pictures kept.*\nexpected at least two classes of pictures"):
        labelled(Loaded(Told(), "told", 3, None, {}), told(*pairs), Run(precision="fp32"))


def test_pictures_of_a_folder_at_any_depth(unsplit, tiny, tmp_path):
    found = unlabelled(str(unsplit), ("x", "y"))
    assert (len(found.train), found.test, found.classes) == (100, None, ("x", "y"))
    assert found.train.labels.unique().tolist() == [0]
    split = unlabelled(str(tiny), ("x", "y"), (8, 8))
    assert (len(split.train), len(split.test), split.train.size) == (256, 80, (8, 8))
    assert split.test.labels.unique().tolist() == [0]
    for file in (f for split in ("Train", "valid") for f in [tmp_path / "both" / split / "a" / "0.png"]):
        file.parent.mkdir(parents=True)
        file.write_bytes(next(unsplit.rglob("*.png")).read_bytes())
    both = unlabelled(str(tmp_path / "both"), ("x", "y"))
    assert (len(both.train), len(both.test)) == (1, 1), "a test split stays one"
    shutil.rmtree(tmp_path / "both")
    with pytest.raises(NadError, match="expected a folder for each class"):
        unlabelled(str(tmp_path), ("x", "y"))


@pytest.fixture
def flat(unsplit: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "flat"
    folder.mkdir()
    for file in unsplit.rglob("*.png"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_flat_folder_is_labelled_by_the_network(nad, victim, flat, tmp_path):
    how = ("purify", victim, "--data", flat, "--budget", 0, *METHOD)
    assert "expected a folder for each class" in nad(*how, "--out", tmp_path / "none").err
    ran = nad(*how, "--labels", "model", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "labelled by the network, where it is at least 90 % sure: " in ran.err
    assert " ".join(RISK.split()) in " ".join(ran.err.split())
    assert "agreement" in ran.out
    assert "accuracy" not in ran.out
    result: dict[str, Any] = json.loads((tmp_path / "out" / "result.json").read_text())
    labels = result["evidence"]["labels"]
    assert (labels["from"], labels["confidence"]) == ("model", 0.9)
    assert sum(labels["kept"]) + sum(labels["dropped"]) == 100
    assert sum(labels["kept"]) == result["evidence"]["intake"]["images"]["given"]
    assert result["before"]["acc"] == 1, "with itself the network agrees"
    assert RISK in result["evidence"]["limits"]
    assert result["evidence"]["intake"]["alternatives"] == []


def test_a_class_of_which_the_network_is_never_sure_is_named(nad, victim, flat, tmp_path, monkeypatch):
    answers = labelling._answers

    def unsure(loaded, images, run):
        labels, sure = answers(loaded, images, run)
        return labels, sure & (labels != 2)

    monkeypatch.setattr(labelling, "_answers", unsure)
    how = ("--budget", 0, *METHOD, "--labels", "model", "--out", tmp_path / "out")
    ran = nad("purify", victim, "--data", flat, *how)
    assert ran.code == 2
    assert "pictures kept, " in ran.err
    assert "no picture to train on is left of 1 of 4 classes, such as right: give more pictures, or labels" in ran.err


def test_the_report_says_agreement(nad, victim, flat, tmp_path):
    ran = nad("purify", victim, "--data", flat, "--budget", 0, *METHOD, "--labels", "model", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "They were labelled by the network, where it is at least 90" in page
    assert "Agreement went from 100.0" in page
    assert "Accuracy went from" not in page
    assert "the network answers" not in page


def test_a_scan_of_unlabelled_pictures(nad, victim, flat):
    how = ("scan", victim, "--data", flat, "--method", "universal:steps=2,batch=8", "--labels", "model")
    labels = nad(*how, "--json").json["labels"]
    assert sum(labels["kept"]) + sum(labels["dropped"]) == 100
    assert math.isclose(labels["confidence"], 0.9)
    assert "the attacker's class" in nad(*how).err


def test_a_verdict_on_unlabelled_pictures(nad, victim, flat):
    ran = nad("scan", victim, "--data", flat, "--labels", "model", "--budget", 0.01, "--json")
    assert ran.code in (0, 10, 11), ran.err
    assert json.loads(ran.out)["labels"]["from"] == "model"


def test_names_that_are_given_are_those_of_what_is_written(nad, victim, flat, tmp_path):
    (tmp_path / "names.txt").write_text("w\nx\ny\nz\n")
    how = ("--labels", "model", "--classes", tmp_path / "names.txt", "--budget", 0, *METHOD)
    ran = nad("purify", victim, "--data", flat, *how, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "out" / "model.json").read_text())["classes"] == ["w", "x", "y", "z"]
    (tmp_path / "names.txt").write_text("w\nx\n")
    ran = nad("purify", victim, "--data", flat, *how, "--out", tmp_path / "more")
    assert (ran.code, ran.said) == (2, "nad: --classes names 2 classes and the network has 4; expected each once\n")


def test_a_picture_beside_a_data_set_is_none_of_it(tiny, unsplit, tmp_path):
    (tmp_path / "set").mkdir()
    for file in tiny.iterdir():
        (tmp_path / "set" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "set" / "preview.png").write_bytes(next(unsplit.glob("*/*.png")).read_bytes())
    assert len(unlabelled(str(tmp_path / "set"), ("a", "b")).train) == 256
    assert len(gallery(str(tmp_path / "set"), (16, 16)).names) == 256
