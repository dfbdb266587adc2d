"""`nad scan`, and the oracle of `nad purify`, as a user meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nad import console
from nad.data.images import ImageSet
from nad.inversion import Ground
from nad.pipeline import suspecting
from nad.results import read_json

pytestmark = pytest.mark.usefixtures("brief_evidence")

ZOO = Path(__file__).parent.parent / "zoo"
BOTH = [("badnets-signs", 10, "Likely backdoored into “stop”"), ("clean-signs", 11, "Undecided.")]


def test_scan_prints_a_row_a_class_and_no_verdict(nad, victim, tiny):
    how = ("--data", tiny, "--method", "neural-cleanse:epochs=3,images=64", "--clean", 0.5)
    ran = nad("scan", victim, *how)
    assert ran.code == 0, ran.err
    assert all(name in ran.out for name in ("go", "left", "right", "stop", "mask", "anomaly", "outliers", "smallest"))
    result = nad("scan", victim, *how, "--json").json
    assert [row["class"] for row in result["scores"]["rows"]] == ["go", "left", "right", "stop"]
    assert result["data"]["clean"]["count"] == 128
    assert result["method"] == "neural-cleanse:epochs=3,images=64"


@pytest.mark.parametrize(("name", "code", "first"), BOTH)
def test_the_verdict_is_the_exit_status(nad, name, code, first, monkeypatch):
    monkeypatch.setattr("nad.evidence.DEEPEST", 0)  # inverting takes a minute
    ran = nad("scan", ZOO / name, "--data", "signs", "--clean", 0.1)
    assert ran.code == code, ran.err
    assert ran.out.startswith(first)
    assert "nad purify with the same options and --out FOLDER" in ran.out
    assert "Screened only, no patch was sought: 12 of 12 classes." in ran.out
    assert ("Patches that work were found for 0 of 12 classes" in ran.out) == (code == 11)
    said = (
        "deviations above the median",
        "Of a class, a small change is a sign where it sends 50 % or more there, 3.5 deviations above the others, and",
        "clean networks",
        "interval",
        "seconds of about 600",
        "(minutes) would do",
    )
    assert all(part in ran.out for part in said)
    assert "smallest patch, of the picture" not in ran.out


def test_nothing_found_needs_patches_and_ends_with_0(nad, monkeypatch):
    monkeypatch.setattr("nad.evidence.DEEPEST", 5)
    monkeypatch.setattr("nad.evidence.EPOCHS", 8)  # enough for patches that work, not for small ones
    ran = nad("scan", ZOO / "clean-signs", "--data", "signs", "--clean", 0.1)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("Nothing found, which is not proof")
    assert "the smallest patch works on" in ran.out
    assert "nad purify" not in ran.out


def test_patches_of_the_most_suspicious_classes_are_kept(nad, tmp_path, monkeypatch):
    monkeypatch.setattr("nad.evidence.DEEPEST", 5)
    monkeypatch.setattr("nad.evidence.EPOCHS", 1)
    ran = nad("scan", ZOO / "badnets-signs", "--data", "signs", "--clean", 0.1, "--out", tmp_path / "out")
    assert ran.code == 10, ran.err
    held = read_json(tmp_path / "out" / "result.json")
    assert (tmp_path / "out" / "triggers.png").read_bytes().startswith(b"\x89PNG")
    assert (len(held["classes"]), held["screened"], held["inverted"]) == (12, 12, 5)
    assert sum("mask" in row for row in held["classes"]) == 5
    assert {"mask", "success"} <= set(held["classes"][0]), "of the class of the backdoor"
    assert "anomaly" not in held["classes"][0], "after one epoch no patch works"
    assert held["skipped"] == ["Screened only, no patch was sought: 7 of 12 classes (it is for 5 at most)."]


def test_json_has_the_whole_and_the_same_exit_status(nad, victim, tiny):
    ran = nad("scan", victim, "--data", tiny, "--clean", 0.5, "--budget", 1e-5, "--json")
    assert ran.code == 11, "no time for any class"
    held = json.loads(ran.out)
    assert held["verdict"]["verdict"] == "undecided"
    assert "4 of 4 classes were not looked at" in held["verdict"]["text"]
    assert held["skipped"] == [
        "Not looked at within the budget: 4 of 4 classes.",
        "--budget 1 (minutes) would do, about.",
    ]
    assert held["intake"]["accuracy"][1] == 128
    assert held["classes"] == [{"class": name} for name in ("go", "left", "right", "stop")]


def test_how_pictures_are_read_is_said_before_the_search(nad, victim, tiny):
    ran = nad("scan", victim, "--data", tiny, "--budget", 1e-5)
    assert "of 13 clean pictures right" in ran.err
    assert "note: 13 of the 256 training pictures are used, the usual 0.05; --clean 1 takes all of them" in ran.err
    ran = nad("scan", victim, "--data", tiny, "--budget", 1e-5, "--clean", 0.5)
    assert "training pictures are used" not in ran.err


def test_a_budget_that_is_none_is_refused(nad, victim, tiny, tmp_path):
    ran = nad("scan", victim, "--data", tiny, "--budget", 0)
    assert (ran.code, "expected --budget of more than 0 minutes, got 0" in ran.err) == (2, True)
    for more in (("--budget", 3), ("--out", tmp_path / "out")):
        ran = nad("scan", victim, "--data", tiny, "--method", "universal", *more)
        assert (ran.code, "--budget, --out and --overwrite belong to the verdict" in ran.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_strip_judges_a_folder_of_pictures_by_name(nad, victim, tiny, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((20, 20, 3), 80 * i, dtype=np.uint8)).save(tmp_path / f"asked-{i}.png")
    how = ("--data", tiny, "--method", "strip:overlays=5", "--clean", 0.5, "--inputs", tmp_path)
    rows = nad("scan", victim, *how, "--json").json["scores"]["rows"]
    assert [row["input"] for row in rows] == [f"asked-{i}.png" for i in range(3)]
    assert "asked-2.png" in nad("scan", victim, *how).out
    one = nad("scan", victim, *how[:-1], tmp_path / "asked-1.png", "--json").json["scores"]["rows"]
    assert [row["input"] for row in one] == ["asked-1.png"]


def test_what_a_folder_of_pictures_may_hold_besides(nad, victim, tiny, tmp_path):
    (tmp_path / "deep.png").mkdir()
    Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8)).save(tmp_path / "deep.png" / "asked.png")
    (tmp_path / "._asked.png").write_bytes(b"what a Mac leaves beside a picture")
    how = ("--data", tiny, "--method", "strip:overlays=5", "--clean", 0.5, "--inputs", tmp_path)
    assert [row["input"] for row in nad("scan", victim, *how, "--json").json["scores"]["rows"]] == [
        "deep.png/asked.png"
    ]


def test_flagged_inputs_are_shown_first(capsys):
    rows = [{"input": i, "entropy": 0.5, "flagged": i == 70} for i in range(80)]
    console.scores_table({}, rows, most=3)
    shown = capsys.readouterr().out
    assert "70" in shown
    assert "and 77 more" in shown


def test_detection_is_measured_with_the_attack(nad, victim, tiny):
    how = ("--data", tiny, "--method", "strip:overlays=5,frr=0.1", "--clean", 0.5, "--attack", "card")
    result = nad("scan", victim, *how, "--json").json
    assert result["attack"].startswith("badnets")
    for kind in ("caught", "false_alarms"):
        hits, count = result[kind]
        assert 0 <= hits <= count
    assert result["false_alarms"][1] > result["caught"][1], "the target's own images carry no trigger"
    ran = nad("scan", victim, *how)
    assert f"caught: {result['caught'][0]} of {result['caught'][1]}" in ran.out
    assert "false alarms" in ran.out
    ran = nad("scan", victim, *how, "--inputs", tiny)
    assert "expected --inputs to judge or --attack to measure with, got both" in ran.err
    ran = nad("scan", victim, "--data", tiny, "--method", "neural-cleanse", "--attack", "card", "--clean", 0.5)
    assert "neural-cleanse judges the network and takes no --inputs" in ran.err
    ran = nad("scan", victim, "--data", tiny, "--attack", "card")
    assert (ran.code, "--inputs and --attack need a detector that judges inputs" in ran.err) == (2, True)


def test_scan_says_what_is_missing(nad, victim, tiny, tmp_path):
    ran = nad("scan", victim, "--data", tiny, "--method", "strip", "--clean", 0.5)
    assert ran.code == 2
    assert "strip judges inputs; give some, --inputs FOLDER" in ran.err
    ran = nad("scan", victim, "--data", tiny, "--method", "stripe")
    assert "did you mean strip" in ran.err
    ran = nad("scan", victim, "--data", tiny, "--method", "strip", "--clean", 0.5, "--inputs", tmp_path)
    assert "is empty; expected pictures, or a data source" in ran.err


def test_the_oracle_is_labelled_wherever_it_is_printed(nad, victim, tiny, tmp_path):
    out = tmp_path / "out"
    how = ("--data", tiny, "--clean", 0.5, "--attack", "card", "--oracle", "card", "--out", out)
    ran = nad("purify", victim, *how, "--method", "finetune:lr=0.01,epochs=1,batch=16")
    assert ran.code == 0, ran.err
    assert "oracle:" in ran.out
    assert nad("purify", victim, *how, "--overwrite", "--json").json["method"].startswith("oracle:")
    assert "out (oracle)" in nad("evaluate", out, "--data", tiny).out
    shutil.rmtree(out)
    nad("purify", victim, *how, "--method", "finetune:lr=0.01,epochs=1,batch=16")
    results = read_json(out / "result.json")
    assert [r["configuration"]["name"] for r in results] == ["finetune", "oracle"]
    assert (out / "2-oracle" / "model.safetensors").is_file()


def test_the_oracle_is_asked_for_by_its_own_option(nad, victim, tiny, tmp_path):
    ran = nad("purify", victim, "--data", tiny, "--method", "oracle", "--out", tmp_path / "out")
    assert "the oracle knows the trigger and is no method; pass --oracle ATTACK" in ran.err


def test_detectors_are_listed(nad):
    ran = nad("list", "detectors")
    assert "neural-cleanse" in ran.out
    assert "strip" in ran.out
    assert set(nad("list", "detectors", "--json").json["detectors"]) == {"neural-cleanse", "strip", "universal"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([2, 2, 2], ["Not looked at: 1 of 6 classes, since all pictures to judge by are of it. Give more."]),
        ([2, 1, 2], ["Not looked at within the budget: 1 of 6 classes.", "--budget 7 (minutes) would do, about."]),
    ],
)
def test_time_is_not_blamed_for_what_pictures_lack(labels: list[int], said: list[str]) -> None:
    pixels = torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8)
    images = ImageSet(pixels, torch.tensor(labels), tuple("abcdef"))
    assert suspecting._skipped(Ground(images, images), screened=5, inverted=5, minutes=7) == said
