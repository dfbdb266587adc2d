"""Networks of strangers on the command line: what they are normalised by, their size, classes, outputs and layers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from nad.cli.app import Data
from nad.data import decoding
from nad.extras import torchvision
from nad.models.create import create, function_in

pytestmark = pytest.mark.usefixtures("brief_evidence")

FAST = ("--method", "finetune:epochs=1,lr=0.01,batch=16")
BOTH = (*FAST, "--method", "nad:teacher=(finetune:epochs=1,lr=0.01,batch=16),beta=1,epochs=1,lr=0.01,batch=16")
CLASSES = ("go", "left", "right", "stop")
HALF = "0.5/0.5/0.5,0.5/0.5/0.5"


def accuracy(ran: Any) -> float:
    return ran.json["after"]["acc"]


@pytest.fixture
def bare(victim: Path, tmp_path: Path) -> Path:
    """The weights of the victim without its card."""
    return Path(shutil.copy(victim / "model.safetensors", tmp_path / "bare.safetensors"))


def folders(root: Path, unsplit: Path, names: tuple[str, ...] = CLASSES, side: int = 16, count: int = 10) -> Path:
    """Some pictures of each class of `unsplit`, whose folder is called otherwise."""
    for came, name in zip(CLASSES, names):
        (root / name).mkdir(parents=True)
        for file in sorted((unsplit / came).iterdir())[:count]:
            Image.open(file).resize((side, side), Image.Resampling.NEAREST).save(root / name / file.name)
    return root


def test_labels_follow_the_cards_order(nad, victim, tiny, tmp_path):
    right = accuracy(nad("evaluate", victim, "--data", tiny, "--json"))
    assert right > 0.9
    with np.load(tiny / "test.npz") as test:
        np.savez(tmp_path / "turned.npz", images=test["images"], labels=3 - test["labels"], classes=CLASSES[::-1])
    assert accuracy(nad("evaluate", victim, "--data", tmp_path / "turned.npz", "--json")) == right
    ran = nad("evaluate", victim, "--data", tmp_path / "turned.npz")
    assert "labels are put into the network's order of classes, by name" in ran.err
    assert (
        nad("scan", victim, "--data", tmp_path / "turned.npz", "--method", "neural-cleanse:epochs=1,images=16").code
        == 0
    )


def test_a_file_says_which_folder_is_which_output(nad, bare, unsplit, tmp_path):
    data = folders(tmp_path / "some", unsplit, ("w", "z", "x", "y"))  # sorted, they are in another order
    names = tmp_path / "names.txt"
    names.write_text("W\nZ\nX\nY\n")
    how = (bare, "--model", "wrn-10-1", "--data", data)
    ran = nad("evaluate", *how)
    assert "warning: nothing says which output is which class" in ran.err
    assert (
        "in sorted order (w, x, y, z); the accuracy tells whether that fits, and --classes FILE says another" in ran.err
    )
    assert accuracy(nad("evaluate", *how, "--json")) < 0.5
    assert accuracy(nad("evaluate", *how, "--classes", names, "--json")) > 0.9
    assert "warning" not in nad("evaluate", *how, "--classes", names).err
    out = tmp_path / "out"
    for command in (("purify", *how, "--out", out, *FAST), ("scan", *how), ("scan", *how, "--method", "universal")):
        ran = nad(*command)  # going on would train the network into the wrong order
        assert ran.code == 2
        assert "with its classes in another order than theirs.\nPass --classes FILE" in ran.err
        assert "which seems to be: w, z, x, y\n" in ran.err
        assert "nothing says which output is which class" in ran.err, "said before a look that takes long"
    assert not out.exists()
    assert nad("purify", *how, "--classes", names, "--out", out, *FAST).code == 0
    assert json.loads((out / "model.json").read_text())["classes"] == ["W", "Z", "X", "Y"]
    ran = nad("evaluate", out, "--data", data)
    assert "warning" not in ran.err
    assert accuracy(nad("evaluate", out, "--data", data, "--json")) > 0.9
    names.write_text("w\nz\nx\n")
    assert "--classes names 3 classes and the network has 4" in nad("evaluate", *how, "--classes", names).err
    names.write_text("w\nz\nx\nyy\n")
    assert "'y' is no class of the network; did you mean yy?" in nad("evaluate", *how, "--classes", names).err


def test_a_subset_of_the_cards_classes_can_be_evaluated_on(nad, victim, unsplit, tmp_path):
    data = folders(tmp_path / "some", unsplit)
    shutil.rmtree(data / "left")
    assert accuracy(nad("evaluate", victim, "--data", data, "--json")) > 0.9
    assert "no pictures of 1 of the network's 4 classes: left" in nad("evaluate", victim, "--data", data).err


def test_normalisation_is_set_by_hand_and_kept(nad, bare, unsplit, tmp_path):
    how = (bare, "--model", "wrn-10-1", "--data", unsplit)
    raw = accuracy(nad("evaluate", *how, "--json"))
    assert accuracy(nad("evaluate", *how, "--normalise", "none", "--json")) == raw
    assert accuracy(nad("evaluate", *how, "--normalise", "0.9/0.9/0.9,0.1/0.1/0.1", "--json")) < raw
    out = tmp_path / "out"
    made = nad("purify", *how, "--normalise", "0.05/0.05/0.05,0.9/0.9/0.9", "--out", out, *FAST, "--json").json
    assert json.loads((out / "model.json").read_text())["normalisation"] == [[0.05] * 3, [0.9] * 3]
    reported = tmp_path / "reported"  # the very pictures that the accuracy was measured on
    files = sorted(path for path in unsplit.rglob("*.png"))
    for index in json.loads((out / "indices.json").read_text())["reported"]:
        (reported / files[index].parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(files[index], reported / files[index].parent.name)
    assert accuracy(nad("evaluate", out, "--data", reported, "--json")) == made["after"]["acc"]
    assert "expected --normalise none, imagenet" in nad("evaluate", *how, "--normalise", "imagnet").err


def test_pictures_are_resized_to_what_the_card_says(nad, victim, unsplit, tmp_path):
    same, large, mixed = (folders(tmp_path / n, unsplit, side=side) for n, side in (("a", 16), ("b", 32), ("c", 16)))
    Image.new("RGB", (20, 18)).save(mixed / "go" / "more.png")
    assert "resized" not in nad("evaluate", victim, "--data", same).err
    ran = nad("evaluate", victim, "--data", large)
    assert "pictures of 32x32 pixels are resized to 16x16, the network's; --size sets another" in ran.err
    assert accuracy(nad("evaluate", victim, "--data", large, "--json")) > 0.9
    ran = nad("evaluate", victim, "--data", mixed)
    assert "pictures of several sizes are resized to 16x16, the network's" in ran.err
    ran = nad("evaluate", victim, "--data", large, "--size", 32)
    assert ran.code == 2
    assert "trained on 16x16 pixels and the images are 32x32; pass --size 16" in ran.err
    _, told = Data(data=str(large), size="20").load_for((16, 16))
    assert told == ("pictures are 20x20, as --size says, and not 16x16",)


def test_headers_of_pictures_that_are_resized_are_read_once(unsplit, tmp_path, monkeypatch):
    data, read = folders(tmp_path / "some", unsplit, side=32), []
    size_of = decoding._header_size
    monkeypatch.setattr(decoding, "_header_size", lambda payload: read.append(payload) or size_of(payload))
    dataset, _ = Data(data=str(data)).load_for((16, 16))
    assert dataset.train.size == (16, 16)
    assert len(read) == len(set(read)) == len(dataset.train)


def test_without_a_card_the_library_says_size_and_normalisation(nad, unsplit, tmp_path):
    safetensors.torch.save_file(create("timm:resnet10t", 4).state_dict(), tmp_path / "net.safetensors")
    data = folders(tmp_path / "some", unsplit, count=2)
    how = ("evaluate", tmp_path / "net.safetensors", "--model", "timm:resnet10t", "--data", data)
    ran = nad(*how)
    assert "normalised by 0.485/0.456/0.406,0.229/0.224/0.225 at 176x176, as timm's resnet10t says; --norm" in ran.err
    assert "pictures of 16x16 pixels are resized to 176x176, the network's; --size sets another" in ran.err
    ran = nad(*how, "--size", 32, "--normalise", "none")
    assert ran.code == 0
    assert "resized" not in ran.err
    assert "normalised" not in ran.err


LAYERS = """
import torch
from torch import nn
from nad.cli.app import Data
from nad.data import decoding
from nad.extras import torchvision

def block(i, o, norm):
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), norm(o), nn.ReLU(), nn.Conv2d(o, o, 3, 1, 1), norm(o), nn.ReLU())

class Net(nn.Module):
    def __init__(self, classes, norm):
        super().__init__()
        self.one, self.two = block(3, 8, norm), block(8, 16, norm)
        self.head = nn.Linear(16, classes)
    def forward(self, x):
        return self.head(self.two(self.one(x)).mean((2, 3)))

class Heads(Net):
    def __init__(self, classes, norm):
        super().__init__(classes, norm)
        self.other = nn.Linear(16, classes)
    def forward(self, x):
        features = self.two(self.one(x)).mean((2, 3))
        return {"main": self.head(features), "other": self.other(features), "features": features}

def plain(classes): return Net(classes, lambda width: nn.Identity())
def group(classes): return Net(classes, lambda width: nn.GroupNorm(2, width))
def batch(classes): return Net(classes, nn.BatchNorm2d)
def frozen(classes): return Net(classes, torchvision("ops").FrozenBatchNorm2d)
def fixed(classes): return Net(classes, nn.BatchNorm2d).requires_grad_(False)
def heads(classes): return Heads(classes, nn.BatchNorm2d)
"""


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "layers.py"
    path.write_text(LAYERS)
    return path


def stored(layers: Path, name: str, dtype: torch.dtype = torch.float32) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights of a network of `layers` on disk, and what was written."""
    torch.manual_seed(0)
    state = {
        k: v.to(dtype) if v.is_floating_point() else v
        for k, v in function_in(str(layers), name)(4).state_dict().items()
    }
    path = layers.with_name(f"{name}.pt")
    torch.save(state, path)
    return path, state


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("plain", torch.float32),
        ("group", torch.float32),
        ("frozen", torch.float32),
        ("fixed", torch.float32),
        ("batch", torch.float16),
        ("frozen", torch.bfloat16),
    ],
)
def test_unusual_layers_are_purified_and_saved_as_they_came(nad, layers, unsplit, name, dtype):
    path, state = stored(layers, name, dtype)
    out = layers.with_name("out")
    ran = nad("purify", path, "--model", f"{layers}:{name}", "--data", unsplit, "--out", out, *BOTH)
    assert ran.code == 0, ran.err
    for method in ("1-finetune", "2-nad"):
        went = safetensors.torch.load_file(out / method / "model.safetensors")
        assert {k: (v.shape, v.dtype) for k, v in went.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
        moved = {key for key in state if not torch.equal(went[key], state[key])}
        assert {"head.weight", "one.0.weight", "two.3.bias"} <= moved, "everything is trained"
        assert nad("evaluate", out / method, "--model", f"{layers}:{name}", "--data", unsplit).code == 0


def test_a_network_with_several_outputs(nad, layers, unsplit):
    path, state = stored(layers, "heads")
    how = (path, "--model", f"{layers}:heads", "--data", unsplit)
    ran = nad("purify", *how, "--out", layers.with_name("none"), *FAST)
    assert ran.code == 2
    assert (
        "the network gives 2 outputs of 4 classes; its outputs are main [1, 4], other [1, 4], features [1, 16]."
        in ran.err
    )
    assert "Pass --output NAME or INDEX" in ran.err
    assert "the network has no output 'mian'; its outputs are main" in nad("evaluate", *how, "--output", "mian").err
    for output, trained, left in (("main", "head.weight", "other.weight"), ("1", "other.weight", "head.weight")):
        out = layers.with_name(f"out {output}")
        ran = nad("purify", *how, "--out", out, "--output", output, *FAST)
        assert ran.code == 0, ran.err
        went = safetensors.torch.load_file(out / "model.safetensors")
        assert went.keys() == state.keys()
        assert torch.equal(went[left], state[left])
        assert not torch.equal(went[trained], state[trained])
        assert json.loads((out / "model.json").read_text())["output"] == output
        assert nad("evaluate", out, "--model", f"{layers}:heads", "--data", unsplit).code == 0


def test_the_layers_to_compare_can_be_named(nad, bare, unsplit, tmp_path):
    how = (bare, "--model", "wrn-10-1", "--normalise", "0.05/0.05/0.05,0.9/0.9/0.9", "--data", unsplit, "--budget", 0)
    ran = nad("purify", *how, "--out", tmp_path / "none", *BOTH, "--stages", "block2/blok3")
    assert ran.code == 2
    assert "the network has no layer 'blok3'; it has block3" in ran.err
    assert not ran.said.startswith("good"), "before anything is looked at"
    ran = nad("purify", *how, "--out", tmp_path / "none", "--method", "finetune", "--stages", "block2/avgpool")
    assert "no layer 'avgpool'" in ran.err, "of a method that compares none, the evidence does"
    ran = nad("purify", *how, "--out", tmp_path / "out", *BOTH, "--stages", "block1.layer.0/block3", "--json")
    tuned, distilled = ran.json
    assert tuned["evidence"]["stages"] == ["block1.layer.0", "block3"]
    assert distilled["notes"]["stages"] == distilled["configuration"]["stages"] == ["block1.layer.0", "block3"]
    with Image.open(tmp_path / "out" / "2-nad" / "attention.png") as drawn:
        assert drawn.width == pytest.approx(5 * 175, abs=20), "a picture, and two layers before and after"


def test_a_folder_of_transformers_from_end_to_end(nad, unsplit, tmp_path):
    torchvision("models")
    import transformers

    names = ("stop", "right", "left", "go")
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**small, image_size=16, patch_size=4, id2label=dict(enumerate(names)))
    transformers.ViTForImageClassification(config).half().save_pretrained(tmp_path / "vit")
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings))
    out = tmp_path / "out"
    ran = nad("purify", tmp_path / "vit", "--data", unsplit, "--out", out, *BOTH)
    assert ran.code == 0, ran.err
    assert f"normalised by {HALF} at 16x16, as " in ran.err
    assert "labels are put into the network's order of classes, by name" in ran.err
    came = safetensors.torch.load_file(tmp_path / "vit" / "model.safetensors")
    for method in ("1-finetune", "2-nad"):
        went = safetensors.torch.load_file(out / method / "model.safetensors")
        assert {k: (v.shape, v.dtype) for k, v in went.items()} == {k: (v.shape, v.dtype) for k, v in came.items()}
        transformers.ViTForImageClassification.from_pretrained(out / method, local_files_only=True)
        assert json.loads((out / method / "model.json").read_text())["classes"] == list(names)
        assert nad("evaluate", out / method, "--data", unsplit).code == 0
    ran = nad("purify", tmp_path / "vit", "--data", unsplit, "--out", out, *BOTH, "--overwrite")
    assert ran.code == 0, ran.err
