"""What the command answers to bad input: one or two lines on standard error, exit code 2, and nothing left behind."""

import errno
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from nad import results
from nad.defenses import DEFENSES
from nad.errors import NadError
from nad.keeping import until_done
from nad.models import create
from nad.pipeline import made

pytestmark = pytest.mark.usefixtures("brief_evidence")

if TYPE_CHECKING:
    from conftest import Nad, Ran

Refused = Callable[..., None]
FAST = "finetune:lr=0.01,epochs=1,batch=16"
TRAIN = "train --data {tiny} --model wrn-10-1 --epochs 1 --out out"
ENDLESS = """[defaults]
model = "wrn-10-1"
data = "tiny"
epochs = 1000000
[[cell]]
name = "one"
[[cell]]
name = "two"
[[cell]]
name = "three"
"""
PURIFY = f"purify {{victim}} --data {{tiny}} --clean 0.5 --method {FAST} --out out"
EVALUATE = "evaluate {victim} --data {tiny}"
EVERY = (TRAIN, PURIFY, EVALUATE)
UNSAFE = "\x1b\x9b\u202e\x07\r"


def tree(root: Path) -> dict[str, bytes | None]:
    """Every path below `root` with its content."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


@pytest.fixture
def refused(
    nad: "Nad", tiny: Path, unsplit: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Check that a command, run in `tmp_path`, is refused as all bad input is, in words in which `match` occurs.

    `{tiny}`, `{unsplit}` and `{victim}` in the command stand for the fixtures; it is split as a shell would.
    """
    monkeypatch.chdir(tmp_path)

    def check(line: str, *match: str) -> None:
        before = tree(tmp_path), tree(victim)
        args = [part.format(tiny=tiny, unsplit=unsplit, victim=victim) for part in shlex.split(line)]
        ran = nad(*args)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert ran.said.startswith("nad: ")
        assert ran.said.endswith("\n")
        assert 1 <= ran.said.count("\n") <= 2, ran.said
        assert "Traceback" not in ran.said
        assert not any(c in ran.said for c in UNSAFE)
        for words in match:
            assert words in ran.said
        assert (tree(tmp_path), tree(victim)) == before

    return check


def weights(classes: int = 4) -> dict[str, Tensor]:
    return create.create("wrn-10-1", classes).state_dict()


# Checkpoints


class Hostile:
    """Makes a folder called `ran` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("ran",)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_truncated_pickle(path: Path) -> None:
    torch.save(weights(), path)
    truncated(path)


def a_truncated_old_pickle(path: Path) -> None:
    torch.save(weights(), path, _use_new_zipfile_serialization=False)
    truncated(path)


def a_plain_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Hostile()}))


def a_checkpoint_with_code(path: Path) -> None:
    torch.save({"state_dict": weights(), "optimizer": Hostile()}, path)


def an_old_checkpoint_with_code(path: Path) -> None:
    torch.save({"state_dict": Hostile()}, path, _use_new_zipfile_serialization=False)


def one_infinite_weight(path: Path) -> None:
    state = weights()
    state["block2.layer.0.conv1.weight"].view(-1)[3] = float("inf")
    torch.save(state, path)


def nan_in_the_statistics(path: Path) -> None:
    torch.save({k: v * float("nan") if "running_mean" in k else v for k, v in weights().items()}, path)


def hostile_keys(path: Path) -> None:
    torch.save({"\x1b[31m[red]key\u202e": torch.ones(3)}, path)


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda path: None, ("there is no checkpoint given.pt", "expected a .safetensors, .pt or .pth")),
        (lambda path: path.touch(), ("given.pt is empty",)),
        (lambda path: path.mkdir(), ("given.pt holds neither model.safetensors nor model.pt",)),
        (lambda path: (path / "cat").mkdir(parents=True), ("those of pictures go after --data",)),
        (lambda path: path.write_text("<html>404</html>"), ("no PyTorch checkpoint", "<html>")),
        (lambda path: torch.save([1, 2], path), ("expected a dictionary of tensors", "got a list")),
        (a_truncated_pickle, ("given.pt is truncated, damaged or no PyTorch checkpoint",)),
        (a_truncated_old_pickle, ("given.pt is truncated, damaged or no PyTorch checkpoint",)),
        (a_plain_pickle_with_code, ("is refused: loading it would run code", "mkdir")),
        (a_checkpoint_with_code, ("is refused: loading it would run code", "mkdir")),
        (an_old_checkpoint_with_code, ("is refused: loading it would run code", "mkdir")),
        (one_infinite_weight, ("NaN or infinite weights", "block2.layer.0.conv1.weight")),
        (nan_in_the_statistics, ("NaN or infinite weights", "running_mean")),
        (hostile_keys, ("does not fit wrn-10-1", "conv1.weight", "?[31m[red]key?")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_checkpoint_that_cannot_be_used(
    refused: Refused, tmp_path: Path, write: Callable[[Path], None], match: tuple[str, ...]
) -> None:
    write(tmp_path / "given.pt")
    refused(PURIFY.format(victim="given.pt", tiny="{tiny}") + " --model wrn-10-1", *match)
    refused("evaluate given.pt --data {tiny} --model wrn-10-1", *match)
    assert not (tmp_path / "ran").exists()


def test_a_hostile_pickle_would_have_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a_plain_pickle_with_code(tmp_path / "given.pt")
    pickle.loads((tmp_path / "given.pt").read_bytes())
    assert (tmp_path / "ran").is_dir()


def test_truncated_safetensors(refused: Refused, victim: Path, tmp_path: Path) -> None:
    shutil.copy(victim / "model.safetensors", tmp_path / "given.safetensors")
    truncated(tmp_path / "given.safetensors")
    refused("evaluate given.safetensors --data {tiny} --model wrn-10-1", "given.safetensors is truncated, damaged")


def test_weights_that_are_not_the_ones_on_the_card(refused: Refused, victim: Path, tmp_path: Path) -> None:
    shutil.copytree(victim, tmp_path / "changed")
    safetensors.torch.save_file(weights(), tmp_path / "changed" / "model.safetensors")
    refused("evaluate changed --data {tiny}", "is not the file that model.json describes", "SHA-256")


def test_a_card_that_names_code(refused: Refused, victim: Path, tmp_path: Path) -> None:
    shutil.copytree(victim, tmp_path / "hostile")
    (tmp_path / "hostile" / "own.py").write_text("import os\nos.mkdir('ran')\n")
    card = tmp_path / "hostile" / "model.json"
    card.write_text(card.read_text().replace('"wrn-10-1"', '"hostile/own.py:net"'))
    refused("evaluate hostile --data {tiny}", "a file with code may only be named by yourself")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("--model wrn-16-1", ("does not fit wrn-16-1", "30 missing", "block1.layer.1.bn1.weight", "--model")),
        ("--model wrn-10-2", ("does not fit wrn-10-2", "block1.layer.0.conv1.weight is [16, 16, 3, 3], expected [32,")),
        ("--model preactresnet18:width=8", ("does not fit preactresnet18:width=8", "layer1.0.bn1.weight")),
        ("--model wnr-10-1", ("unknown model 'wnr-10-1'; did you mean wrn-10-1",)),
        ("--model wrn-11-1", ("expected a WRN depth of 6n+4", "got 11")),
        ("--model torchvision:resnt18", ("no classifier 'resnt18'; did you mean resnet18",)),
        ("--model own.py:net", ("there is no file own.py",)),
        ("--model \x1b[31m[red]net", ("unknown model '?[31m[red]net'",)),
    ],
)
def test_an_architecture_that_does_not_fit(refused: Refused, more: str, match: tuple[str, ...]) -> None:
    refused(f"{PURIFY} {more}", *match)
    refused(f"{EVALUATE} {more}", *match)


def test_an_unknown_architecture_is_not_trained(refused: Refused) -> None:
    refused(TRAIN.replace("wrn-10-1", "wrn-10-l"), "unknown model 'wrn-10-l'; did you mean wrn-10-1")


def test_a_checkpoint_without_a_card_needs_its_architecture(refused: Refused, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "given.pt")
    refused("evaluate given.pt --data {tiny}", "given.pt does not say its architecture. Pass --model")


def test_another_number_of_classes(refused: Refused, tmp_path: Path) -> None:
    torch.save(weights(7), tmp_path / "seven.pt")
    match = "the network has 7 classes and tiny train has 4"
    refused(PURIFY.format(victim="seven.pt", tiny="{tiny}") + " --model wrn-10-1", match)
    refused("evaluate seven.pt --data {tiny} --model wrn-10-1", "the network has 7 classes and tiny test has 4")


def test_images_of_another_size_than_the_networks(refused: Refused) -> None:
    for line in (PURIFY, EVALUATE):
        refused(f"{line} --size 8", "trained on 16x16 pixels and the images are 8x8; pass --size 16")


# Images


def npz(path: Path, labels: np.ndarray, **more: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    images = np.zeros((len(labels), 16, 16, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256  # no copies
    np.savez(path, images=images, labels=labels, **more)


def picture(path: Path, side: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def class_folders(root: Path) -> None:
    for name in ("a", "b", "c", "d"):
        for i in range(6):
            picture(root / name / f"{i}.png")


def a_corrupt_picture(root: Path) -> None:
    class_folders(root)
    (root / "b" / "3.png").write_bytes(b"\x1b[31m[red] no picture")


def a_truncated_picture(root: Path) -> None:
    class_folders(root)
    truncated(root / "b" / "3.png")


def an_empty_picture(root: Path) -> None:
    class_folders(root)
    (root / "b" / "3.png").write_bytes(b"")


def a_class_folder_without_pictures(root: Path) -> None:
    class_folders(root)
    (root / "[red]\x1b[31me").mkdir()


def one_class_folder(root: Path) -> None:
    picture(root / "a" / "0.png")


def one_class_in_an_array(root: Path) -> None:
    npz(root / "train.npz", np.zeros(40, int))


def a_label_too_high(root: Path) -> None:
    npz(root / "train.npz", np.arange(40) % 5, classes=np.array(list("abcd")))


def a_label_too_high_in_the_test_split(root: Path) -> None:
    npz(root / "train.npz", np.arange(40) % 4)
    npz(root / "test.npz", np.arange(40) % 5)


def a_label_below_zero(root: Path) -> None:
    npz(root / "train.npz", np.arange(40) % 4 - 1)


def no_images(root: Path) -> None:
    npz(root / "train.npz", np.zeros(0, int))


def a_damaged_array(root: Path) -> None:
    npz(root / "train.npz", np.arange(40) % 4)
    truncated(root / "train.npz")


def pickled_labels(root: Path) -> None:
    npz(root / "train.npz", np.array([Hostile()] * 40, dtype=object))


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (Path.mkdir, ("[red]images: expected a folder for each class", "got no folders")),
        (a_class_folder_without_pictures, ("the class folder '[red]?[31me' holds no pictures",)),
        (a_corrupt_picture, ("b/3.png cannot be decoded: it is corrupt", "replace it or remove it")),
        (a_truncated_picture, ("b/3.png cannot be decoded: it is corrupt, truncated",)),
        (an_empty_picture, ("b/3.png cannot be decoded",)),
        (one_class_folder, ("expected images of at least two classes",)),
        (one_class_in_an_array, ("expected images of at least two classes",)),
        (a_label_too_high, ("expected labels in 0..3, got 4",)),
        (a_label_too_high_in_the_test_split, ("expected labels in 0..3, got 4",)),
        (a_label_below_zero, ("train.npz image 0 has no label (or -1), like 10 in all",)),
        (no_images, ("expected at least one image, got none",)),
        (a_damaged_array, ("train.npz", "damaged")),
        (pickled_labels, ("train.npz cannot be read", "pickled objects, which are never loaded")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_images_that_cannot_be_used(
    refused: Refused, tmp_path: Path, write: Callable[[Path], None], match: tuple[str, ...]
) -> None:
    write(tmp_path / "[red]images")
    for line in EVERY:
        refused(line.replace("{tiny}", "'[red]images'").replace("--clean 0.5", ""), *match)
    assert not (tmp_path / "ran").exists()


def test_pictures_of_several_sizes_where_nothing_says_which(refused: Refused, tmp_path: Path) -> None:
    class_folders(tmp_path / "pictures")
    picture(tmp_path / "pictures" / "b" / "3.png", side=17)
    refused(TRAIN.replace("{tiny}", "pictures"), "23 of 16x16, 1 of 17x17", "pass --size")


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_a_class_without_a_clean_image(refused: Refused, tmp_path: Path, splits: tuple[str, ...]) -> None:
    names = np.array(["a", "b", "\x1b[31m[red]c:smile:", "d"])
    labels = np.arange(60) % 4
    for split in splits:
        npz(tmp_path / "lacking" / f"{split}.npz", labels[labels != 2] if split == "train" else labels, classes=names)
    line = PURIFY.replace("{tiny}", "lacking").replace("--clean 0.5", "" if len(splits) == 1 else "--clean 1")
    refused(line, "expected clean images of every class, got none of ?[31m[red]c:smile:; add some")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("sings", "no image set and no path is called 'sings'; did you mean signs?"),
        ("cifar-10", "did you mean cifar10"),
        ("nowhere/at/all", "no image set and no path is called 'nowhere/at/all'"),
        ("\x1b[31m[red]", "no image set and no path is called '?[31m[red]'"),
        ("{victim}/model.json", "model.json is not a known image set; expected a folder of class folders"),
    ],
)
def test_unknown_images(refused: Refused, name: str, match: str) -> None:
    for line in EVERY:
        refused(line.replace("{tiny}", name), match)


@pytest.mark.parametrize("size", ["big", "0", "-3", "1.5", "16x", "x16", "16x16x16", "''"])
def test_an_unknown_size(refused: Refused, size: str) -> None:
    for line in EVERY:
        refused(f"{line} --size {size}", "--size")


# How many clean images


@pytest.mark.parametrize(("clean", "shown"), [("0", "0"), ("-1", "-1"), ("1.5", "1.5"), ("nan", "nan"), ("inf", "inf")])
def test_a_clean_fraction_out_of_range(refused: Refused, clean: str, shown: str) -> None:
    refused(PURIFY.replace("0.5", clean), f"expected --clean in (0, 1], got {shown}")


@pytest.mark.parametrize("budget", ["-1", "nan"])
def test_a_budget_below_nothing(refused: Refused, budget: str) -> None:
    refused(f"{PURIFY} --budget {budget}", f"expected --budget of at least 0 minutes, got {budget}")


def test_a_clean_fraction_that_is_no_number(refused: Refused) -> None:
    refused(PURIFY.replace("0.5", "half"), "--clean", '"half"')


@pytest.mark.parametrize(
    "method", ["finetune", "nad", "nad:lr=0.01,beta=1", "nad:lr=0.01,beta=0", "scratch", "nad-sau"]
)
def test_too_few_images_for_a_step(refused: Refused, method: str) -> None:
    line = PURIFY.replace("0.5", "0.025").replace(FAST, method)
    name = method.partition(":")[0]
    refused(line, f"{name}: 6 clean images to train on are fewer than the 8 of the smallest", f"set {name}:batch=6")


def test_too_few_images_to_choose_with(refused: Refused) -> None:
    line = PURIFY.replace("0.5", "0.01").replace(FAST, "nad:batch=2")
    refused(line, "choosing needs a class with at least 2 different clean images", "set what is chosen yourself")


def test_a_folder_without_splits_takes_no_clean_fraction(refused: Refused) -> None:
    refused(PURIFY.replace("{tiny}", "{unsplit}"), "unsplit has no train and test splits, so --clean is not taken")


# Methods and their values


@pytest.mark.parametrize(
    ("method", "match"),
    [
        ("finetun", "unknown defense 'finetun'; did you mean finetune"),
        ("NAD2", "unknown defense 'NAD2'; expected one of anp, chain, clp"),
        ("''", "expected name or name:key=value,key=value, got ''"),
        ("nad:betta=1", "defense nad has no option 'betta'; did you mean beta?"),
        ("nad:beta", "expected key=value, got 'beta'"),
        ("nad:beta=1,beta=2", "beta is given twice"),
        ("nad:beta=much", "nad:beta expects"),
        ("nad:beta=-1", "every beta >= 0"),
        ("nad:beta=nan", "nad:beta expects"),
        ("nad:beta=1/2,lr=0.1,batch=16,epochs=1", "beta has 2 entries for 3 stages: block1, block2, block3"),
        ("nad:p=0", "expected p >= 1"),
        ("nad:loss=l1", "nad:loss expects sq|eq2|mse, got 'l1'"),
        ("nad:stages=layer1,lr=0.1,beta=1,batch=16,epochs=1", "the network has no layer 'layer1'"),
        ("nad:teacher=finetun", "unknown defense 'finetun'; did you mean finetune"),
        ("'nad:teacher=(finetune:rl=0.1)'", "defense finetune has no option 'rl'; did you mean lr?"),
        ("'nad:teacher=(finetune:lr=0.1'", "unbalanced parentheses"),
        ("nad:teacher_checkpoint=nowhere.pt,lr=0.1,beta=1,batch=16", "there is no checkpoint nowhere.pt"),
        ("finetune:lr=0", "expected epochs and batch >= 1 and lr > 0"),
        ("finetune:lr=fast", "finetune:lr expects a number or auto, got 'fast'"),
        ("finetune:epochs=0", "expected epochs and batch >= 1"),
        ("finetune:epochs=1.5", "finetune:epochs expects a whole number, got '1.5'"),
        ("finetune:augment=crop/flop", "unknown augmentation 'flop'; expected crop, flip, cutoutN or none"),
        ("finetune:recipe=best", "finetune:recipe expects paper|reference|recommended, got 'best'"),
        ("finetune:max_drop=1", "expected max_drop in [0, 1)"),
        ("\x1b[31m[red]nad", "unknown defense '?[31m[red]nad'"),
        ("nad:[red]\x1b=1", "has no option '[red]?'"),
    ],
)
def test_a_method_that_cannot_be_made(refused: Refused, method: str, match: str) -> None:
    refused(PURIFY.replace(FAST, method), match)
    refused(f"{PURIFY} --method {method}", match)  # beside one that can


def test_a_number_of_folds_below_one(refused: Refused) -> None:
    refused(PURIFY.replace(FAST, "finetune:folds=-3"), "folds")


@pytest.mark.parametrize(
    ("attack", "match"),
    [
        ("badnet", "unknown attack 'badnet'; did you mean badnets or wanet?"),
        ("''", "expected name or name:key=value,key=value, got ''"),
        ("badnets:targt=1", "attack badnets has no option 'targt'; did you mean target?"),
        ("badnets:target=4", "expected target in 0..3, got 4"),
        ("badnets:target=-1", "expected target >= 0, got -1"),
        ("badnets:rate=0", "expected rate in (0, 1], got 0"),
        ("badnets:rate=nan", "rate"),
        ("badnets:low=3", "badnets:low expects 0|128, got '3'"),
        ("badnets:size=17", "the trigger is 17x17 and the images are 16x16; use a smaller size"),
    ],
)
def test_an_attack_that_cannot_be_made(refused: Refused, attack: str, match: str) -> None:
    for line in EVERY:
        refused(f"{line} --attack {attack}", match)


def test_a_rate_that_poisons_no_image(refused: Refused) -> None:
    refused(f"{TRAIN} --attack badnets:rate=0.001", "rate 0.001 of 256 images is none; raise rate")


def test_a_loss_that_is_no_number(refused: Refused) -> None:
    refused(PURIFY.replace("lr=0.01", "lr=1e30"), "the loss became", "lower lr or beta")


def test_images_too_small_for_the_architecture(refused: Refused) -> None:
    refused(TRAIN.replace("wrn-10-1", "torchvision:alexnet"), "16x16", "--size")


# Commands and options


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("trian --data signs", ('Unknown command "trian"', 'Did you mean "train"')),
        ("'[red]\x1b[31m'", ('"[red]?[31m"',)),
        (f"{TRAIN} --fast", ("Unknown option: --fast",)),
        (f"{EVALUATE} --jsn", ("Unknown option: --jsn", "--json")),
        (f"{TRAIN} extra", ("extra",)),
        ("train --model wrn-10-1 --out out", ("--data", "is missing")),
        ("train --data {tiny} --out out", ("--model", "is missing")),
        ("train --data {tiny} --model wrn-10-1", ("--out", "is missing")),
        ("purify --data {tiny} --out out", ("CHECKPOINT", "is missing")),
        ("purify {victim} --out out", ("--data", "is missing")),
        ("purify {victim} --data {tiny}", ("--out", "is missing")),
        ("evaluate {victim} --data", ("--data", "requires")),
        (f"{TRAIN} --seed one", ("--seed", '"one"')),
        (f"{TRAIN} --seed 'a\nb\nc'", ("--seed", '"a b c"')),
        (f"{TRAIN} --regime weak", ("--regime", '"weak"', "strong")),
        (TRAIN.replace("--epochs 1", "--epochs 0"), ("expected epochs and batch >= 1",)),
        (f"{TRAIN} --augment crop/flop", ("unknown augmentation 'flop'",)),
        (f"{PURIFY} --format onnx", ("--format", '"onnx"', "safetensors")),
        (f"{TRAIN} --precision fp16", ("--precision", '"fp16"', "bf16")),
        (f"{TRAIN} --device tpu", ("--device", '"tpu"', "cuda")),
        ("list defences", ('"defences"', "defenses")),
        ("data cifar11 --out out", ('"cifar11"', "cifar10-jpeg")),
    ],
)
def test_a_command_line_that_is_wrong(refused: Refused, line: str, match: tuple[str, ...]) -> None:
    refused(line, *match)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("more", ["", " --json"])
def test_a_device_that_is_not_there(refused: Refused, more: str) -> None:
    for line in EVERY:
        refused(f"{line} --device cuda{more}", "--device cuda: this machine", "use --device auto")


# Where to write


@pytest.mark.parametrize("line", [TRAIN, PURIFY, "demo --out out"])
def test_a_folder_that_holds_a_result(refused: Refused, tmp_path: Path, line: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    refused(line, "--out out already holds a result", "--overwrite")


def test_a_result_is_replaced_where_that_is_said(nad: "Nad", tiny: Path, victim: Path, tmp_path: Path) -> None:
    shutil.copytree(victim, tmp_path / "out")
    (tmp_path / "out" / "1-finetune").mkdir()
    (tmp_path / "out" / "1-finetune" / "model.pt").touch()
    where = ("--data", tiny, "--clean", 0.5, "--out", tmp_path / "out")
    assert nad("purify", victim, *where, "--method", FAST, "--overwrite").code == 0
    assert {p.name for p in tmp_path.rglob("*")} == {
        *("out", "model.safetensors", "model.json", "result.json", "history.csv", "indices.json"),
        *("attention.png", "triggers.png", "report.html"),
    }
    assert '"method": "finetune' in (tmp_path / "out" / "result.json").read_text()


@pytest.mark.parametrize("holds", ["[red]thesis\x1b.tex", "sub/thesis.tex", "model.pt"])
@pytest.mark.parametrize("more", ["", " --overwrite"])
def test_a_folder_that_holds_something_else(refused: Refused, tmp_path: Path, holds: str, more: str) -> None:
    (tmp_path / "out" / holds).parent.mkdir(parents=True)
    (tmp_path / "out" / holds).write_text("years of work")
    if holds != "model.pt":  # a checkpoint alone is somebody's too, though a result has a file of that name
        (tmp_path / "out" / "result.json").write_text("{}")
    for line in (TRAIN, PURIFY, "demo --out out"):
        refused(line + more, "--out out holds other files", holds.replace("\x1b", "?"), "choose a new folder")


def test_a_file_where_the_folder_should_be(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(TRAIN.replace("--out out", "--out file"), "--out file is a file")
    refused(TRAIN.replace("--out out", "--out file/out"), "cannot write to --out file/out")
    refused(TRAIN.replace("--out out", "--out file/deeper/out"), "cannot write to --out file/deeper/out")
    refused(TRAIN.replace("--out out", f"--out {'long' * 80}"), "cannot write to --out longlong")
    refused(TRAIN.replace("--out out", "--out ."), "--out . is the current folder")


def test_no_permission_to_write(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(**where: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(results.tempfile, "mkdtemp", denied)
    for out in ("out", "new/folder/out"):
        for line in (TRAIN, PURIFY, "demo --out out"):
            line = line.replace("--out out", f"--out {out}")
            refused(line, f"cannot write to --out {out}: Permission denied; choose another folder")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    refused(TRAIN.replace("--out out", "--out locked/out"), "cannot write to --out locked/out: Permission denied")


@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_fills_up(refused: Refused, victim: Path, tmp_path: Path, before: bool) -> None:
    if before:
        shutil.copytree(victim, tmp_path / "out")

    def full(path: Path, history: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "write_history", full)
        refused(f"{PURIFY} --overwrite", "No space left on device", "nothing was written")


def test_weights_that_find_no_room(refused: Refused) -> None:
    resource = pytest.importorskip("resource", reason="a limit of the operating system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # bytes of a file: a real failure, not a planted one
    try:
        refused(PURIFY, "cannot write", "model.safetensors: File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_new_folder_that_cannot_take_its_place(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(victim, tmp_path / "out")
    rename = os.replace

    def busy(source: Path, target: Path) -> None:
        if Path(target).name == "out" and not str(source).endswith(".old"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(results.os, "replace", busy)
    how = ("--data", tiny, "--clean", 0.5, "--method", FAST, "--budget", 0, "--out", tmp_path / "out", "--overwrite")
    ran = nad("purify", victim, *how)
    (kept,) = tmp_path.glob("out.*")
    assert ran.code == 2
    assert ran.said.endswith(
        f"Device or resource busy; choose another folder\nWhat was made lies in {kept.name} beside it\n"
    )
    assert (kept / "report.html").exists(), "minutes of work are not thrown away"
    assert tree(tmp_path / "out") == tree(victim)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_comes_into_the_folder_meanwhile_is_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    place, said = tmp_path / "out", r"holds other files, such as notes.txt.*\nWhat was made lies in out\.\w{8} beside"

    def work() -> None:
        with results.new_folder(place, overwrite) as made:
            (made / "result.json").touch()
            place.mkdir()
            (place / "notes.txt").write_text("mine")

    with pytest.raises(NadError, match=said):
        work()
    assert (place / "notes.txt").read_text() == "mine"
    assert (next(tmp_path.glob("out.*")) / "result.json").exists()


@pytest.mark.parametrize("more", ["", " --overwrite"])
def test_the_folder_of_the_checkpoint_is_never_replaced(
    refused: Refused, victim: Path, tmp_path: Path, more: str
) -> None:
    shutil.copytree(victim, tmp_path / "out")
    for checkpoint in ("out", "out/model.safetensors", "./out/../out"):
        line = PURIFY.replace("{victim}", checkpoint)
        refused(line + more, "--out out holds the checkpoint, which is only ever read")


@pytest.mark.parametrize("command", [PURIFY.replace("--clean 0.5 ", ""), "scan {victim} --data {tiny} --out out"])
def test_a_result_never_lies_among_the_images(refused: Refused, unsplit: Path, command: str) -> None:
    line = command.replace("{tiny}", "{unsplit}").replace("--out out", "--out {unsplit}/out")
    refused(line, "lies among the images of --data", "would take it for a class; choose a folder outside")
    assert not (unsplit / "out").exists()


def test_what_killed_runs_left_goes_with_the_next_one_after_a_week(tmp_path: Path) -> None:
    def left(name: str, file: str, days: float) -> Path:
        (folder := tmp_path / name).mkdir()
        (folder / file).touch()
        os.utime(folder, (then := time.time() - days * 24 * 3600, then))
        return folder

    gone = left(".out.ab12_3cd", "model.safetensors", 8)
    stay = [
        left(".out.ef45_6gh", "model.safetensors", 6),
        left(".out.mine_now", "notes.txt", 8),
        left(".out.ab12_3ce.old", "model.safetensors", 8),
        left(".other.ab12_3cd", "model.safetensors", 8),
    ]
    with results.new_folder(tmp_path / "out") as place:
        (place / "result.json").touch()
    assert not gone.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*stay, tmp_path / "out"])


def test_a_failure_leaves_no_new_parent_folder(refused: Refused) -> None:
    refused(f"{TRAIN.replace('--out out', '--out new/folder/out')} --attack badnets:target=9", "expected target")


# Interrupted


TWO = ("--method", FAST, "--method", "scratch:epochs=1,batch=16")


def interrupted(*given: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["training", "writing", "second method"])
@pytest.mark.parametrize("before", [False, True])
def test_an_interruption_leaves_nothing(
    nad: "Nad",
    tiny: Path,
    victim: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    before: bool,
) -> None:
    if before:
        shutil.copytree(victim, tmp_path / "out")
    there = tree(tmp_path), tree(victim)

    target, name = {
        "training": (DEFENSES["finetune"], "erase"),
        "writing": (made, "write_history"),
        "second method": (DEFENSES["scratch"], "erase"),
    }[where]
    monkeypatch.setattr(target, name, interrupted)
    monkeypatch.setenv("NAD_CACHE", str(tmp_path_factory.mktemp("cache")))
    ran = nad("purify", victim, "--data", tiny, "--clean", 0.5, *TWO, "--out", tmp_path / "out", "--overwrite")
    assert (ran.code, ran.out) == (130, "")
    assert ran.said == (
        "nad: stopped; nothing unfinished was written; the same command goes on from what was finished\n"
    )
    assert (tree(tmp_path), tree(victim)) == there


def test_the_same_command_goes_on_from_what_was_finished(
    nad: "Nad",
    tiny: Path,
    victim: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def purify(name: str) -> "Ran":
        return nad("purify", victim, "--data", tiny, "--clean", 0.5, *TWO, "--out", tmp_path / name)

    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NAD_CACHE", str(cache))
    finetune, scratch = DEFENSES["finetune"].erase, DEFENSES["scratch"].erase
    begun: list[str] = []

    monkeypatch.setattr(DEFENSES["finetune"], "erase", lambda *given: begun.append("finetune") or finetune(*given))
    monkeypatch.setattr(DEFENSES["scratch"], "erase", interrupted)
    assert purify("out").code == 130
    monkeypatch.setattr(DEFENSES["scratch"], "erase", scratch)
    went_on = purify("out").err
    assert "a stopped run left finished pieces" in went_on
    assert re.search(r"the finished pieces spared \d+ s\n", went_on)
    assert begun == ["finetune"], "what the first run had finished is not done again"
    assert not list((cache / "unfinished").iterdir()), "nothing is left behind when all is done"
    assert "a stopped run" not in purify("whole").err
    assert begun == ["finetune"] * 2
    for one in ("1-finetune", "2-scratch"):
        weights = [(tmp_path / name / one / "model.safetensors").read_bytes() for name in ("out", "whole")]
        assert weights[0] == weights[1], "as if it had never been stopped"
    monkeypatch.setattr(DEFENSES["scratch"], "erase", interrupted)
    assert purify("other").code == 130
    finetune_alone = ("--method", "finetune:epochs=2,lr=0.02,batch=32")
    other = nad("purify", victim, "--data", tiny, "--clean", 0.5, *finetune_alone, "--out", tmp_path / "other").err
    assert "the finished pieces were of no use with these settings\n" in other


def test_what_nobody_came_back_for_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAD_CACHE", str(tmp_path))
    for name, days in (("old", 8), ("young", 6)):
        (tmp_path / "unfinished" / name).mkdir(parents=True)
        then = time.time() - days * 24 * 3600
        os.utime(tmp_path / "unfinished" / name, (then, then))
    with until_done(tmp_path / "out"):
        assert [p.name for p in (tmp_path / "unfinished").iterdir()] == ["young"]


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [None, 2])
def test_being_stopped_while_training_leaves_nothing(
    tiny: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, sent: signal.Signals, jobs: int | None
) -> None:
    line = TRAIN.format(tiny=tiny).replace("--epochs 1", "--epochs 1000000").replace("--out out", "--out deep/out")
    if jobs:
        grid = tmp_path_factory.mktemp("grid") / "endless.toml"
        grid.write_text(ENDLESS)
        line = f"bench {grid} --data {tiny.parent} --jobs {jobs} --out deep/out"

    def begun() -> list[Path]:
        return [p for p in tmp_path.rglob(".*") if p.is_dir()]

    process = subprocess.Popen(
        [sys.executable, "-m", "nad", *shlex.split(line)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NAD_CACHE": str(tmp_path_factory.mktemp("cache"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    try:
        until = time.monotonic() + 240
        while len(begun()) < (jobs or 1) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        assert process.poll() is None, process.communicate()
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    again = "; the same command goes on from what was finished" if line.startswith(("purify", "bench")) else ""
    assert (process.returncode, out, err) == (130, "", f"nad: stopped; nothing unfinished was written{again}\n")
    assert tree(tmp_path) == ({"deep": None, "deep/out": None} if jobs else {}), "a grid's folder is shared, and stays"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")
def test_a_purification_that_is_killed_outright_starts_clean(
    nad: "Nad", tiny: Path, victim: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given, out = tree(victim), tmp_path / "out"
    line = ("purify", str(victim), "--data", str(tiny), "--clean", "0.5", "--budget", "0", "--out", str(out))
    process = subprocess.Popen(
        [sys.executable, "-m", "nad", *line, "--method", "finetune:lr=0.01,epochs=1000000,batch=16"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NAD_CACHE": str(tmp_path_factory.mktemp("cache"))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 240
    while not list(tmp_path.glob(".out.*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not out.exists()
    assert nad(*line, "--method", FAST).code == 0
    assert (out / "report.html").is_file()
    assert tree(victim) == given


# What comes from a stranger or from one's own hands


def test_images_under_a_tilde_are_not_written_over(
    nad: "Nad", unsplit: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(unsplit, tmp_path / "mine")
    before = tree(tmp_path)
    ran = nad("purify", victim, "--data", "~/mine", "--method", FAST, "--out", tmp_path / "mine", "--overwrite")
    assert (ran.code, "holds the images, which is only ever read" in ran.err) == (2, True), ran.err
    assert tree(tmp_path) == before
    shutil.copytree(victim, tmp_path / "theirs")
    ran = nad("purify", "~/theirs", "--data=~/mine", "--method", FAST, "--budget", 0, "--out=~/new")
    assert (ran.code, (tmp_path / "new" / "report.html").is_file()) == (0, True), ran.err
    assert f"wrote {tmp_path / 'new'}" in ran.out


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (f"{PURIFY} --size 100000", "expected --size of 1 to 4096 pixels, got 100000x100000"),
        (f"{PURIFY} --size 0", "expected --size of 1 to 4096 pixels, got 0x0"),
        (PURIFY.replace(FAST, "scratch:model=wrn-16-1"), "--method nad:teacher=scratch,teacher_model=wrn-16-1"),
        ("scan {victim} --data {tiny} --method universal --overwrite", "belong to the verdict"),
        ("show --data {tiny} --attack badnets --out out.png --count -9", "expected --count of at least 1, got -9"),
    ],
)
def test_what_asks_for_too_much_or_for_nothing(refused: Refused, line: str, match: str) -> None:
    refused(line, match)


def test_a_card_that_asks_for_pictures_of_any_size(refused: Refused, victim: Path, tmp_path: Path) -> None:
    shutil.copytree(victim, tmp_path / "bomb")
    card = json.loads((tmp_path / "bomb" / "model.json").read_text())
    (tmp_path / "bomb" / "model.json").write_text(json.dumps(card | {"size": [1000000, 1000000]}))
    refused("evaluate bomb --data {unsplit}", "expected --size of 1 to 4096 pixels, got 1000000x1000000")


def test_a_card_that_fills_the_memory(refused: Refused, victim: Path, tmp_path: Path) -> None:
    shutil.copytree(victim, tmp_path / "bomb")
    with (tmp_path / "bomb" / "model.json").open("wb") as file:
        file.truncate(17 << 20)
    refused("evaluate bomb --data {unsplit}", "more than 16,777,216 bytes, which no card needs")


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("def net(): pass", "net(4) of own.py fails: TypeError: net() takes 0 positional arguments"),
        ("def net(", "own.py cannot be run: SyntaxError"),
        ("import nowhere", "own.py cannot be run: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_own_code_that_fails_says_so_in_a_line(refused: Refused, tmp_path: Path, code: str, match: str) -> None:
    (tmp_path / "own.py").write_text(code)
    refused("train --data {tiny} --model own.py:net --epochs 1 --out out", match)


def test_a_damaged_picture_of_a_set_that_is_streamed(
    refused: Refused, unsplit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unsplit, tmp_path / "many")
    picture = next((tmp_path / "many" / "go").iterdir())
    picture.write_bytes(picture.read_bytes()[:-100])
    monkeypatch.setattr("nad.data.images.RESIDENT_BYTES", 0)
    refused("evaluate {victim} --data many", picture.name)
