"""Image classifiers of transformers, from folders as its `save_pretrained` writes them."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nad.errors import NadError
from nad.extras import torchvision
from nad.models.card import Card
from nad.models.checkpoints import load, save, weights_fingerprint
from nad.models.normalize import described, normalisation, unwrap

HALF = ((0.5,) * 3, (0.5,) * 3)
SIZE = {"image_size": 32, "num_channels": 3}
NAMED = {"id2label": {0: "stop", 1: "yield", 2: "go"}, "label2id": {"stop": 0, "yield": 1, "go": 2}}
KINDS: dict[str, dict[str, Any]] = {
    "ViT": SIZE
    | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    | {"patch_size": 8},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "MobileNetV2": SIZE | {"depth_multiplier": 0.1, "min_depth": 4, "output_stride": 8, "tf_padding": False},
    "Swin": SIZE | {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
}
CARD = Card(architecture="transformers:ViTForImageClassification", classes=("stop", "yield", "go"))


def library() -> Any:
    torchvision("models")
    import transformers

    return transformers


def made(kind: str, **more: Any) -> Any:
    transformers = library()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**KINDS[kind] | NAMED | more)
        return getattr(transformers, f"{kind}ForImageClassification")(config).eval()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, with the settings of its image processor."""
    root = tmp_path_factory.mktemp("transformers")
    for kind in KINDS:
        made(kind).save_pretrained(root / kind)
        settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
        (root / kind / "preprocessor_config.json").write_text(json.dumps(settings))
    return root


@pytest.fixture
def vit(originals: Path, tmp_path: Path) -> Path:
    """A folder of a ViT that a test may change."""
    return Path(shutil.copytree(originals / "ViT", tmp_path / "vit"))


def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def change(folder: Path, name: str = "config.json", **values: Any) -> None:
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(content))


def weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def answers(folder: Path) -> Tensor:
    """What the library's own loader gives for the images, normalised by hand."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(library(), name).from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        return model((images() - 0.5) / 0.5).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_transformers_loads_and_comes_out_as_it_came(originals: Path, kind: str, tmp_path: Path) -> None:
    folder = originals / kind
    loaded = load(folder)
    assert loaded.architecture == f"transformers:{kind}ForImageClassification"
    assert (loaded.classes, loaded.names, loaded.size) == (3, ("stop", "yield", "go"), (32, 32))
    assert normalisation(loaded.model) == HALF
    assert "normalised by 0.5/0.5/0.5,0.5/0.5/0.5 at 32x32, as " in loaded.notes[0]
    assert "preprocessor_config.json says; --normalise" in loaded.notes[0]
    assert not any(module.training for module in loaded.model.modules())
    with torch.no_grad():
        assert torch.equal(loaded.model(images()), answers(folder))
    save(tmp_path, loaded.model, Card(architecture=loaded.architecture, classes=loaded.names), like=loaded)
    for name in ("config.json", "preprocessor_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    came, went = weights(folder), weights(tmp_path)
    assert came.keys() == went.keys()
    assert all(torch.equal(came[key], went[key]) and came[key].dtype == went[key].dtype for key in came)
    again = load(tmp_path)
    assert again.card is not None
    with torch.no_grad():
        assert torch.equal(again.model(images()), loaded.model(images()))
        assert torch.equal(answers(tmp_path), loaded.model(images()))


def test_weights_that_were_changed_are_what_both_libraries_load(vit: Path, tmp_path: Path) -> None:
    loaded = load(vit)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter += 0.01 * torch.rand_like(parameter)
    out = tmp_path / "out"
    out.mkdir()
    save(out, loaded.model, CARD, like=loaded)
    with torch.no_grad():
        assert torch.equal(answers(out), loaded.model(images()))
    assert not torch.equal(answers(out), answers(vit))


def test_half_precision_stays_on_disk(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    made("ViT").half().save_pretrained(tmp_path / "half")
    loaded = load(tmp_path / "half")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    save(tmp_path / "out", loaded.model, CARD, like=loaded)
    came, went = weights(tmp_path / "half"), weights(tmp_path / "out")
    assert {t.dtype for t in went.values()} == {torch.float16}
    assert all(torch.equal(came[key], went[key]) for key in came)


def test_pixels_with_blue_first(vit: Path, tmp_path: Path) -> None:
    before = load(vit)
    change(vit, "preprocessor_config.json", do_flip_channel_order=True)
    loaded, out = load(vit), tmp_path / "out"
    assert "with red and blue exchanged, as " in loaded.notes[0]
    assert weights_fingerprint(loaded.model) == weights_fingerprint(before.model)
    out.mkdir()
    save(out, loaded.model, CARD, like=loaded)
    with torch.no_grad():
        assert torch.equal(loaded.model(images()), before.model(images().flip(1)))
        assert torch.equal(load(out).model(images()), loaded.model(images()))
    assert described(loaded.model) != described(before.model), "half a purification of one is none of the other"


def test_without_a_processor_the_size_is_the_configurations(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    loaded = load(vit)
    assert (loaded.size, normalisation(loaded.model)) == ((32, 32), None)
    assert "pixels are not normalised at 32x32, as " in loaded.notes[0]


def test_classes_without_names(vit: Path) -> None:
    change(vit, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    assert load(vit).names == ()
    change(vit, id2label={"0": "a", "1": "b\x1b[31m", "2": "c"})
    assert load(vit).names == ("a", "b?[31m", "c")


def test_tensors_that_the_library_computes_itself_are_kept(originals: Path, tmp_path: Path) -> None:
    folder, out = Path(shutil.copytree(originals / "Swin", tmp_path / "swin")), tmp_path / "out"
    out.mkdir()
    index = "swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"
    old = weights(folder) | {index: torch.arange(256).view(16, 16)}
    safetensors.torch.save_file(old, folder / "model.safetensors", {"format": "pt"})
    loaded = load(folder)
    save(out, loaded.model, CARD, like=loaded)
    assert weights(out).keys() == old.keys()
    assert torch.equal(weights(out)[index], old[index])


def test_model_overrides_the_configuration(vit: Path) -> None:
    with pytest.raises(NadError, match="does not fit wrn-10-1"):
        load(vit, "wrn-10-1")


def test_loading_leaves_no_trace(vit: Path) -> None:
    from huggingface_hub import constants

    before, level = torch.get_rng_state(), library().logging.get_verbosity()
    load(vit)
    assert torch.equal(torch.get_rng_state(), before)
    assert (constants.HF_HUB_OFFLINE, library().logging.get_verbosity()) == (False, level)
    assert library().logging.is_progress_bar_enabled()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (
        lambda p: change(p, auto_map={"AutoModel": "own.Net"}),
        r"config\.json is refused: it names code of its own",
    ),
    "quantised": (lambda p: change(p, quantization_config={"bits": 4}), "is refused: its weights are quantised"),
    "another task": (
        lambda p: change(p, architectures=["ViTForMaskedImageModeling"]),
        r"expected an image classifier of transformers \d.*, got \['ViTForMaskedImageModeling'\] of type vit",
    ),
    "another kind": (
        lambda p: change(p, model_type="bert", architectures=["BertModel"]),
        "got .*BertModel.* type bert",
    ),
    "an unknown kind": (
        lambda p: change(p, model_type="my\x1bnet"),
        r"expected an image classifier .* of type my\?net",
    ),
    "a class by path": (lambda p: change(p, architectures="os.system"), "expected an image classifier .*os.system"),
    "no class": (lambda p: change(p, architectures=3), "expected an image classifier .*got 3"),
    "one that fetches": (
        lambda p: change(p, model_type="timm_wrapper", architectures=["TimmWrapperForImageClassification"]),
        "expected an image classifier",
    ),
    "more layers": (lambda p: change(p, num_hidden_layers=900_000), "far more layers than the weights have"),
    "wider layers": (
        lambda p: change(p, hidden_size=100_000, intermediate_size=900_000),
        r"describes a network of [\d,]+ numbers, the weights are [\d,]+",
    ),
    "a giant": (lambda p: change(p, hidden_size=10**12), "no image classifier needs a number such as 1000000000000"),
    "a text for a number": (lambda p: change(p, hidden_size="\x1b"), r"transformers cannot use .*config\.json: "),
    "nothing for a number": (lambda p: change(p, patch_size=0), r"transformers cannot use .*config\.json: "),
    "an unknown activation": (lambda p: change(p, hidden_act="os.system"), r"transformers cannot use .*config\.json: "),
    "other classes": (
        lambda p: change(p, id2label={"0": "a", "1": "b"}),
        r"classifier\.weight is \[3, 16\], expected \[2",
    ),
    "classes that are no numbers": (lambda p: change(p, id2label={"a": "0"}), r"config\.json"),
    "no JSON": (lambda p: (p / "config.json").write_text("{"), r"config\.json: expected JSON"),
    "deep JSON": (lambda p: (p / "config.json").write_text("[" * 100_000), r"config\.json: expected JSON"),
    "a list": (lambda p: (p / "config.json").write_text("[]"), "expected a JSON object, got list"),
    "a large one": (lambda p: (p / "config.json").write_bytes(b" " * (17 << 20)), "has more than 16,777,216 bytes"),
    "none": (lambda p: (p / "config.json").unlink(), "does not say its architecture. Pass --model"),
    "not of transformers": (lambda p: (p / "config.json").write_text('{"lr": 1}'), "does not say its architecture"),
    "of timm": (
        lambda p: (p / "config.json").write_text('{"architecture": "resnet10t", "pretrained_cfg": {}}'),
        r"config\.json is timm's; pass --model timm:resnet10t",
    ),
    "a processor that is none": (
        lambda p: change(p, "preprocessor_config.json", image_std=[0, 0, 0]),
        r"preprocessor_config\.json: expected the settings of an image processor",
    ),
    "a key more": (
        lambda p: safetensors.torch.save_file(weights(p) | {"extra": torch.zeros(2)}, p / "model.safetensors"),
        r"1 not known to it \(extra\)",
    ),
    "a key less": (
        lambda p: safetensors.torch.save_file(
            {k: t for k, t in weights(p).items() if k != "classifier.bias"}, p / "model.safetensors"
        ),
        r"1 missing \(classifier\.bias\)",
    ),
    "pickled weights": (
        lambda p: os.replace(p / "model.safetensors", p / "pytorch_model.bin"),
        r"neither model\.safetensors nor model\.pt. Its pytorch_model\.bin is a pickle, .* \(save_pretrained\)",
    ),
    "weights in several files": (
        lambda p: os.replace(p / "model.safetensors", p / "model.safetensors.index.json"),
        "Its weights are in several files",
    ),
    "another pickle": (
        lambda p: (torch.save(weights(p), p / "model.pt"), (p / "model.safetensors").unlink()),
        r"model\.pt is refused: .* weights are read from safetensors alone",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_used(vit: Path, case: str) -> None:
    damage, message = BAD[case]
    damage(vit)
    with pytest.raises(NadError, match=message) as caught:
        load(vit)
    assert len(str(caught.value).splitlines()) <= 2
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_kernels_that_a_configuration_asks_for_are_not_fetched(vit: Path, key: str) -> None:
    expected = answers(vit)
    change(vit, **{key: "somebody/kernels"})
    with torch.no_grad():
        assert torch.equal(load(vit).model(images()), expected)


def test_code_beside_the_weights_is_not_run(vit: Path) -> None:
    (vit / "modeling_vit.py").write_text("raise SystemExit('ran')")
    (vit / "own.py").write_text("raise SystemExit('ran')")
    load(vit)
    for place in ("vision_config", "backbone_config"):
        change(vit, **{place: {"auto_map": {"AutoConfig": "own.Config"}, "trust_remote_code": True}})
        load(vit)


def test_a_card_needs_the_configuration_beside_it(vit: Path, tmp_path: Path) -> None:
    loaded, out = load(vit), tmp_path / "out"
    out.mkdir()
    save(out, loaded.model, CARD, like=loaded)
    (out / "config.json").unlink()
    with pytest.raises(NadError, match=r"model\.safetensors needs the config\.json of transformers beside it"):
        load(out)


def test_a_card_of_another_network_ignores_a_configuration(vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    save(out, nn.Linear(2, 3), Card(architecture="wrn-10-1", classes=("a", "b", "c")))
    shutil.copy(vit / "config.json", out)
    with pytest.raises(NadError, match="does not fit wrn-10-1"):
        load(out)


def test_a_plain_state_dict_keeps_its_configuration(vit: Path, tmp_path: Path) -> None:
    loaded, out = load(vit), tmp_path / "out"
    out.mkdir()
    save(out, loaded.model, CARD, "pt", like=loaded)
    with torch.no_grad():
        assert torch.equal(load(out).model(images()), loaded.model(images()))
    assert set(torch.load(out / "model.pt", weights_only=True)) == set(weights(vit))


def test_a_missing_library_says_the_pip_line(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NadError, match=r"pip install 'nad\[transformers\]'"):
        load(vit)


def test_the_network_inside_is_the_librarys(vit: Path) -> None:
    assert type(unwrap(load(vit).model)) is library().ViTForImageClassification
