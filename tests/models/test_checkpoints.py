"""Weights in and out: published layouts, round trips, and everything that a file may do wrong."""

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nad.errors import NadError
from nad.models import card, checkpoints
from nad.models.card import Card
from nad.models.checkpoints import load, save, weights_fingerprint
from nad.models.create import create
from nad.models.normalize import Normalized, unwrap
from nad.models.wide_resnet import WideResNet

NAMES = tuple(f"sign {i}" for i in range(10))
CARD = Card(
    architecture="wrn-10-1",
    classes=NAMES,
    size=(32, 32),
    data={"name": "signs", "count": 100, "fingerprint": "ab"},
    attack="badnets:target=5",
    attack_seed=3,
    recipe={"epochs": 2, "rates": [0.1, 0.01]},
    seed=1,
    versions={"nad": "0.1"},
    metrics={"acc": 0.5, "asr": None},
)


def network(classes: int = 10, seed: int = 0) -> nn.Module:
    """A WRN-10-1 whose batch norms have seen something."""
    model = create("wrn-10-1", classes, seed=seed)
    with torch.no_grad():
        model(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def read(path: Path) -> dict[str, Tensor]:
    """What a user's own code would read."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


def published(model: nn.Module) -> dict[str, Any]:
    """A dictionary as training scripts save it, from a data-parallel network."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(images()).sum().backward()
    optimizer.step()
    return {
        "epoch": 24,
        "arch": "whatever",
        "state_dict": nn.DataParallel(model).state_dict(),
        "best_prec": 85.65,
        "optimizer": optimizer.state_dict(),
    }


def test_a_published_checkpoint_loads_as_it_is(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "WRN-10-1-backdoored.pth.tar"
    torch.save(published(model), path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    loaded = load(path, "wrn-10-1")
    assert isinstance(loaded.model, WideResNet)
    assert not loaded.model.training
    assert (loaded.architecture, loaded.classes, loaded.card) == ("wrn-10-1", 10, None)
    assert torch.equal(loaded.model(images()), model(images()))
    assert loaded.notes == ("every key has the prefix 'module.', which is kept in what is saved",)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        lambda state: {"net": state, "acc": 93.1},
        lambda state: {"model": state},
        lambda state: {"model_state_dict": OrderedDict(state), "loss": torch.tensor(0.3)},
        lambda state: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in state.items()}},
        lambda state: {f"model.{k}": v for k, v in state.items()},
        lambda state: {f"net.backbone.{k}": v for k, v in state.items()},
        lambda state: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
        lambda state: {k: v for k, v in state.items() if "num_batches" not in k},  # PyTorch before 0.4.1
    ],
    ids=[
        "plain",
        "net",
        "model",
        "model_state_dict",
        "two prefixes",
        "model.",
        "any prefix",
        "parameters",
        "no counters",
    ],
)
def test_every_usual_layout_loads(tmp_path: Path, layout: Callable[[dict[str, Tensor]], object], old: bool) -> None:
    model = network(7)
    torch.save(layout(model.state_dict()), tmp_path / "net.pth", _use_new_zipfile_serialization=not old)
    loaded = load(tmp_path / "net.pth", "wrn-10-1")
    assert loaded.classes == 7
    assert torch.equal(loaded.model(images()), model(images()))


def test_safetensors_without_a_card_loads(tmp_path: Path) -> None:
    model = network(7)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "net.safetensors")
    loaded = load(str(tmp_path / "net.safetensors"), "wrn-10-1")
    assert loaded.classes == 7
    assert torch.equal(loaded.model(images()), model(images()))


@pytest.mark.parametrize(
    "name", ["preactresnet18:width=4", "torchvision:squeezenet1_0", "torchvision:regnet_x_400mf", "timm:resnet10t"]
)
def test_the_number_of_classes_is_read_from_any_architecture(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(create(name, 6).state_dict(), tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors", name).classes == 6


def test_a_factory_that_knows_its_own_number_of_classes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\ndef net(classes): return nn.Linear(3, 4)")
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "own.pt")
    assert load(tmp_path / "own.pt", f"{tmp_path}/own.py:net").classes == 4


def test_loading_changes_no_global_state(tmp_path: Path) -> None:
    save(tmp_path, network(), CARD)
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool) -> None:
    written, hashed = save(tmp_path, network(), CARD), []

    def counted(path: Path, digest: Callable[[Path], str] = card.digest) -> str:
        hashed.append(path.name)
        return digest(path)

    for module in (card, checkpoints):
        monkeypatch.setattr(module, "digest", counted)
    if not recorded:
        (tmp_path / "model.json").write_text(replace(written, sha256="").to_json())
    assert load(tmp_path).source == {"name": f"{tmp_path.name}/model.safetensors", "sha256": written.sha256}
    assert hashed == ["model.safetensors"]


@pytest.mark.parametrize("format", ["safetensors", "pt"])
def test_what_is_saved_loads_with_its_card(tmp_path: Path, format: Any) -> None:
    model = network()
    written = save(tmp_path, model, CARD, format)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", f"model.{format}"]
    loaded = load(tmp_path)
    assert loaded.card == written == replace(CARD, sha256=written.sha256)
    assert len(written.sha256) == 64
    assert torch.equal(loaded.model(images()), model(images()))
    network(seed=1).load_state_dict(read(tmp_path / f"model.{format}"), strict=True)
    assert not hasattr(loaded.model, "card")


@pytest.mark.parametrize("format", ["safetensors", "pt"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_comes_out_has_the_keys_shapes_and_types_that_came_in(
    tmp_path: Path, format: Any, dtype: torch.dtype, prefix: str
) -> None:
    state = {prefix + k: v.to(dtype) if v.is_floating_point() else v for k, v in network().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pth")
    loaded = load(tmp_path / "theirs.pth", "wrn-10-1")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    save(tmp_path, loaded.model, CARD, format, like=loaded)
    out = read(tmp_path / f"model.{format}")
    assert {k: (v.shape, v.dtype) for k, v in out.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
    assert all(torch.equal(out[k], state[k].float().to(dtype) if "num" not in k else state[k]) for k in state)
    if format == "pt":
        assert list(out) == list(state)
    theirs = create("wrn-10-1", 10).to(dtype)
    (nn.DataParallel(theirs) if prefix else theirs).load_state_dict(out, strict=True)
    *kept, pixels = load(tmp_path).notes
    assert (tuple(kept), "as its card says" in pixels) == (loaded.notes, True)


def test_channels_last_and_shared_weights_can_be_saved(tmp_path: Path) -> None:
    model = network().to(memory_format=torch.channels_last)
    model.block3.layer[0].conv2.weight = model.block3.layer[0].conv2.weight
    model.block1.layer[0].bn1.bias = model.block1.layer[0].bn2.bias
    save(tmp_path, model, CARD)
    assert torch.equal(load(tmp_path).model(images()), network().eval()(images()))


@pytest.mark.parametrize("format", ["safetensors", "pt"])
def test_normalisation_goes_to_the_card_and_comes_back(tmp_path: Path, format: Any) -> None:
    inner = network()
    model = Normalized(inner, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)).eval()
    written = save(tmp_path, model, CARD, format)
    assert written.normalisation == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert set(read(tmp_path / f"model.{format}")) == set(inner.state_dict())
    loaded = load(tmp_path)
    assert isinstance(loaded.model, Normalized)
    assert torch.equal(loaded.model(images()), model(images()))
    assert loaded.card == written


def test_fingerprint_sees_values_only() -> None:
    model = network()
    same = Normalized(network(), (0.5,) * 3, (0.5,) * 3).to(memory_format=torch.channels_last)
    assert weights_fingerprint(model) == weights_fingerprint(same)
    assert weights_fingerprint(model) != weights_fingerprint(network(seed=1))
    changed = network()
    changed.fc.bias.data[0] += 1e-7
    assert weights_fingerprint(changed) != weights_fingerprint(model)
    assert weights_fingerprint(network().half()) != weights_fingerprint(model)
    one, two = nn.Linear(2, 3), nn.Linear(3, 2)
    orders = [nn.ModuleDict({"one": one, "two": two}), nn.ModuleDict({"two": two, "one": one})]
    assert weights_fingerprint(orders[0]) == weights_fingerprint(orders[1])


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle 2", "pickle 4", "pickle 5"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path, kind: str) -> None:
    sentinel, path = tmp_path / "ran", tmp_path / "model.pt"
    evil = {"state_dict": network().state_dict(), "hook": Evil(f"touch '{sentinel}'")}
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps({"hook": evil["hook"]}, int(kind[-1])))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(NadError, match=r"model\.pt is refused: loading it would run code \((posix|nt|os)\.system\)"):
        load(path, "wrn-10-1")
    assert not sentinel.exists()
    pickle.loads(path.read_bytes()) if kind.startswith("pickle") else torch.load(path, weights_only=False)
    assert sentinel.exists()  # the file was dangerous indeed


def test_a_pickled_network_is_refused_and_named(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(NadError, match=r"run code \(nad\.models\.wide_resnet\.WideResNet, .*\n.*state_dict\(\) alone"):
        load(tmp_path / "whole.pt", "wrn-10-1")


def changed(**tensors: Any) -> dict[str, Any]:
    return network().state_dict() | {key.replace("__", "."): value for key, value in tensors.items()}


WEIGHTS = torch.rand(10, 64)
BAD_CONTENT = {
    "a list": ([1, 2], "expected a dictionary of tensors .* got a list"),
    "a tensor": (torch.zeros(3), "expected a dictionary of tensors .* got a Tensor"),
    "nothing": ({}, "holds no weights: .* got an empty dictionary"),
    "an empty entry": ({"state_dict": {}}, "holds no weights: .* got an empty dictionary"),
    "no tensors": ({"epoch": 3}, "expected a tensor at epoch, got a int"),
    "a number": (changed(fc__bias=3.0), r"expected a tensor at fc\.bias, got a float"),
    "a list of numbers": (changed(fc__bias=[3.0]), r"expected a tensor at fc\.bias, got a list"),
    "a number as key": ({3: torch.zeros(1)}, "expected a tensor at 3"),
    "sparse": (changed(fc__weight=WEIGHTS.to_sparse()), r"plain real numbers at fc\.weight, got a sparse tensor"),
    "complex": (changed(fc__weight=WEIGHTS.cfloat()), r"plain real numbers at fc\.weight, got torch\.complex64"),
    "inflated": (
        changed(fc__weight=torch.zeros(1).expand(10**12, 64)),
        r"plain real numbers at fc\.weight, got a shape larger than its data",
    ),
    "integers": (changed(fc__weight=WEIGHTS.byte()), r"fc\.weight is torch\.uint8, expected torch\.float32"),
    "nan": (changed(bn1__bias=torch.full((64,), torch.nan)), r"NaN or infinite weights, first in bn1\.bias"),
    "infinite": (changed(bn1__bias=torch.full((64,), -torch.inf)), r"NaN or infinite weights, first in bn1\.bias"),
    "too large": (
        changed(bn1__bias=torch.full((64,), 1e300, dtype=torch.float64)),
        r"NaN or infinite .* first in bn1\.bias",
    ),
    "wide": (create("wrn-10-2", 10).state_dict(), r"\d+ of another shape or type \(block1\.layer\.0.*, …\)"),
    "deep": (create("wrn-16-1", 10).state_dict(), r"\d+ not known to it \(block1\.layer\.1\.bn1\.weight, .*, …\)"),
    "other": (create("preactresnet18:width=4", 10).state_dict(), r"\d+ missing \(.*\d+ not known to it \("),
    "some": (
        {key: value for key, value in changed().items() if key not in ("fc.bias", "bn1.weight")},
        r"does not fit wrn-10-1: of its keys, 2 missing \(bn1\.weight, fc\.bias\)\.\nPass the architecture .*--model",
    ),
    "part of a prefix": (
        {("module." if "fc" in key else "") + key: value for key, value in changed().items()},
        r"2 missing \(fc\.weight, fc\.bias\); 2 not known to it \(module\.fc\.weight, module\.fc\.bias\)",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_content_that_does_not_fit(tmp_path: Path, case: str) -> None:
    content, message = BAD_CONTENT[case]
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(NadError, match=message) as caught:
        load(tmp_path / "net.pt", "wrn-10-1")
    assert len(str(caught.value).splitlines()) <= 2


def test_a_wrong_number_of_classes_is_named(tmp_path: Path) -> None:
    torch.save(network(43).state_dict(), tmp_path / "net.pt")
    with pytest.raises(NadError, match=r"2 of another shape or type \(fc\.weight is \[43, 64\], expected \[10, 64\]"):
        load(tmp_path / "net.pt", "wrn-10-1", classes=10)
    assert load(tmp_path / "net.pt", "wrn-10-1", classes=43).classes == 43


def test_nan_in_safetensors_is_named(tmp_path: Path) -> None:
    safetensors.torch.save_file(changed(conv1__weight=torch.full((16, 3, 3, 3), torch.nan)), tmp_path / "n.safetensors")
    with pytest.raises(NadError, match=r"NaN or infinite weights, first in conv1\.weight"):
        load(tmp_path / "n.safetensors", "wrn-10-1")


def truncated(path: Path, old: bool = False) -> None:
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=not old)
    path.write_bytes(path.read_bytes()[:-5000])


def lying(path: Path) -> None:
    """A zip checkpoint whose pickle claims more data than there is."""
    torch.save(torch.zeros(10), path.with_name("honest"))
    with zipfile.ZipFile(path.with_name("honest")) as honest, zipfile.ZipFile(path, "w") as file:
        for name in honest.namelist():
            file.writestr(name, honest.read(name).replace(b"K\x0a", b"K\xff"))


BAD_FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": ("n.pt", lambda p: p.write_bytes(b""), r"n\.pt is empty"),
    "empty safetensors": ("n.safetensors", lambda p: p.write_bytes(b""), r"n\.safetensors is empty"),
    "truncated zip": ("n.pt", truncated, "truncated, damaged or no PyTorch checkpoint$"),
    "truncated legacy": ("n.pth.tar", lambda p: truncated(p, old=True), "truncated, damaged or no PyTorch checkpoint$"),
    "lying zip": ("n.pt", lying, "truncated, damaged or no PyTorch checkpoint$"),
    "bytes": ("n.bin", lambda p: p.write_bytes(bytes(range(27, 127))), r"it starts with '\?\?\?\?\? !"),
    "one byte": ("n.pt", lambda p: p.write_bytes(b"\x80"), "truncated, damaged or no PyTorch checkpoint$"),
    "an escape as global": (
        "n.pt",
        lambda p: p.write_bytes(b"\x80\x02cos\x1b[31m\nsys\x07tem\n."),
        r"would run code \(os\?\[31m\.sys\?tem\)",
    ),
    "truncated safetensors": (
        "n.safetensors",
        lambda p: p.write_bytes(safetensors.torch.save(network().state_dict())[:-100]),
        "truncated, damaged or no safetensors file",
    ),
    "a giant header": (
        "n.safetensors",
        lambda p: p.write_bytes((2**62).to_bytes(8, "little") + b"{}" + b" " * 64),
        "truncated, damaged or no safetensors file",
    ),
    "a giant tensor": (
        "n.safetensors",
        lambda p: p.write_bytes(
            (h := b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}')
            and len(h).to_bytes(8, "little") + h + b"\0" * 16
        ),
        "truncated, damaged or no safetensors file",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, case: str) -> None:
    name, write, message = BAD_FILES[case]
    write(tmp_path / name)
    with pytest.raises(NadError, match=message) as caught:
        load(tmp_path / name, "wrn-10-1")
    assert len(str(caught.value).splitlines()) <= 2
    assert str(caught.value).replace("\n", "").isprintable()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NadError, match=r"there is no checkpoint .*n\.pt; expected a \.safetensors, \.pt or \.pth"):
        load(tmp_path / "n.pt", "wrn-10-1")
    with pytest.raises(NadError, match=r"the folder .* holds neither model\.safetensors nor model\.pt"):
        load(tmp_path, "wrn-10-1")


def test_a_folder_of_tensorflow_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(
        NadError, match=r" is a TensorFlow model and no PyTorch checkpoint\.\nGet the PyTorch checkpoint"
    ):
        load(tmp_path, "wrn-10-1")


def test_no_architecture(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "n.pt")
    with pytest.raises(NadError, match=r"n\.pt does not say its architecture\. Pass --model"):
        load(tmp_path / "n.pt")


def test_control_characters_in_keys_and_paths_do_not_reach_messages(tmp_path: Path) -> None:
    path = tmp_path / "n\x1b[2J.pt"
    torch.save(changed() | {"evil\x1b]0;title\x07\u202e": torch.zeros(1)}, path)
    with pytest.raises(NadError, match=r"n\?\[2J\.pt .*1 not known to it \(evil\?\]0;title\?\?\)") as caught:
        load(path, "wrn-10-1")
    assert str(caught.value).replace("\n", "").isprintable()


def rewrite(folder: Path, **values: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["net.pth.tar", "net.pt", "net.safetensors", "net.weights", "v1.2.pth"])
def test_a_card_of_the_same_stem_is_used(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        safetensors.torch.save_file(network().state_dict(), tmp_path / name)
    else:
        torch.save(network().state_dict(), tmp_path / name)
    stem = "v1.2" if name.startswith("v1") else "net"
    (tmp_path / f"{stem}.json").write_text('{"architecture": "wrn-10-1", "classes": ["a"]}')
    with pytest.raises(NadError, match=r"fc\.weight is \[10, 64\], expected \[1, 64\]"):
        load(tmp_path / name)


def test_weights_that_are_not_the_cards(tmp_path: Path) -> None:
    save(tmp_path, network(), CARD)
    safetensors.torch.save_file(network(seed=1).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(NadError, match=r"is not the file that model\.json describes: its SHA-256 differs"):
        load(tmp_path)


def test_model_overrides_the_card(tmp_path: Path) -> None:
    save(tmp_path, network(), replace(CARD, architecture="wrn-16-1"))
    with pytest.raises(NadError, match="does not fit wrn-16-1"):
        load(tmp_path)
    loaded = load(tmp_path, "wrn-10-1")
    assert loaded.architecture == "wrn-10-1"
    assert loaded.card is not None
    assert loaded.card.classes == NAMES


@pytest.mark.parametrize("architecture", ["wrn-10-999", "preactresnet18:width=9999"])
def test_a_card_cannot_ask_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    def without_memory(*args: Any, **options: Any) -> nn.Module:
        assert torch.get_default_device().type == "meta"
        return create(*args, **options)

    save(tmp_path, network(), CARD)
    rewrite(tmp_path, architecture=architecture)
    monkeypatch.setattr("nad.models.checkpoints.create", without_memory)
    with pytest.raises(NadError, match="does not fit"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "wrn-11-1"}, r"depth of 6n\+4"),
        ({"architecture": "mystery"}, "unknown model 'mystery'"),
        ({"architecture": "evil.py:factory"}, "refused: a file with code"),
        ({"architecture": "timm:hf-hub:somebody/something"}, "unknown model"),
        ({"architecture": "a\x1b[31m"}, r"unknown model 'a\?\[31m'"),
        ({"architecture": ["wrn-10-1"]}, "model card: architecture expects a text, got "),
        ({"classes": []}, "model card: classes expects a list of texts"),
        ({"classes": "abc"}, "model card: classes expects a list of texts"),
        ({"classes": [1, 2]}, "model card: classes expects a list of texts"),
        ({"size": 32}, r"model card: size expects \[height, width\] or null, got '32'"),
        ({"size": [32, 0]}, "model card: size expects"),
        ({"size": [True, 32]}, "model card: size expects"),
        ({"normalisation": [[0.5] * 3, [0.0] * 3]}, "model card: normalisation expects"),
        ({"normalisation": [[0.5] * 3, ["1"] * 3]}, "model card: normalisation expects"),
        ({"normalisation": [[0.5] * 3]}, "model card: normalisation expects"),
        ({"attack": {"name": "badnets"}}, "model card: attack expects a text or null"),
        ({"attack_seed": 1.5}, "model card: attack_seed expects a whole number or null, got '1.5'"),
        ({"seed": True}, "model card: seed expects a whole number"),
        ({"recipe": "fast"}, "model card: recipe expects an object"),
        ({"metrics": []}, "model card: metrics expects an object"),
        ({"sha256": "AB"}, "model card: sha256 expects 64 hexadecimal digits"),
        ({"weights": 3}, "a model card has no key 'weights'; expected architecture, classes"),
        ({"we\x1bird": 3}, r"a model card has no key 'we\?ird'"),
    ],
)
def test_a_card_that_does_not_hold(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    save(tmp_path, network(), CARD)
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    rewrite(tmp_path, **values)
    with pytest.raises(NadError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a model card in JSON"),
        ("{", "expected a model card in JSON"),
        ("[" * 100_000, "expected a model card in JSON"),
        ('{"classes": ["a"]}', "lacks the key 'architecture'"),
        ('{"architecture": "wrn-10-1"}', "lacks the key 'classes'"),
    ],
)
def test_json_that_is_no_card(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path, network(), CARD)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(NadError, match=rf"model\.json: .*{message}.*\nIf it is no card of these weights, move it away"):
        load(tmp_path)


@pytest.mark.parametrize("text", ['{"lr": 0.1, "epochs": 30}', '["cat", "dog"]', '{"class_name": "Functional"}', "3"])
def test_other_json_beside_weights_is_no_card(tmp_path: Path, text: str) -> None:
    save(tmp_path, network(), CARD)
    (tmp_path / "model.json").write_text(text)
    assert load(tmp_path, "wrn-10-1").card is None
    with pytest.raises(NadError, match="does not say its architecture"):
        load(tmp_path)


def test_texts_in_a_card_are_made_printable() -> None:
    text = CARD.to_json().replace("sign 3", "sign\\u001b[31m").replace("signs", "a\\u202eb")
    made = Card.from_json(text)
    assert made.classes[3] == "sign?[31m"
    assert made.data["name"] == "a?b"
    assert Card.from_json(CARD.to_json()) == CARD


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NadError, match=r"cannot write .*model\.safetensors: "):
            save(folder, network(), CARD)
    with pytest.raises(NadError, match="expected the format safetensors or pt, got 'onnx'"):
        save(tmp_path, network(), CARD, "onnx")  # type: ignore[arg-type]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(source: Path, target: Path) -> None:
        assert Path(source).stat().st_size > 100_000
        raise KeyboardInterrupt

    monkeypatch.setattr("nad.models.files.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, network(), CARD)
    assert list(tmp_path.iterdir()) == []


def test_unwrapped_networks_save_the_same_bytes(tmp_path: Path) -> None:
    model = Normalized(network(), (0.5,) * 3, (0.5,) * 3)
    assert save(tmp_path, model, CARD).sha256 == save(tmp_path, unwrap(model), CARD).sha256


def test_a_card_names_the_images_of_its_network() -> None:
    named = Card(architecture="wrn-10-1", classes=NAMES, data={"train": {"name": "gtsrb32 (26,640 of train)"}})
    assert named.dataset == "gtsrb32"
    for data in ({}, {"train": {}}, {"train": {"name": " "}}, {"train": "gtsrb32"}):
        with pytest.raises(NadError, match="does not name the images"):
            _ = replace(named, data=data).dataset
