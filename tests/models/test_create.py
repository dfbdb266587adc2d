"""Networks by name."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nad.errors import NadError
from nad.models.create import EXAMPLES, NAMES, create, pixels_of
from nad.models.wide_resnet import WideResNet


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_network_with_the_right_number_of_classes(name: str) -> None:
    with torch.no_grad():
        assert create(name, 7).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_names_tell_every_form() -> None:
    assert list(NAMES) == [
        "wrn-DEPTH-WIDTH",
        "preactresnet18[:width=64]",
        "torchvision:NAME[:size=N]",
        "timm:NAME[:size=N]",
        "FILE.py:FACTORY",
    ]


def test_sizes_come_from_the_name() -> None:
    wide = create("wrn-22-3", 5)
    assert isinstance(wide, WideResNet)
    assert (len(wide.block1.layer), wide.fc.in_features, wide.fc.out_features) == (3, 192, 5)
    assert create("preactresnet18", 5).linear.in_features == 512
    assert create("preactresnet18:width=16", 5).linear.in_features == 128
    with torch.device("meta"):
        assert create("torchvision:vit_b_16:size=48", 5).encoder.pos_embedding.shape[1] == 1 + 9
        assert create("timm:vit_tiny_patch16_224:size=48", 5).pos_embed.shape[1] == 1 + 9


@pytest.mark.parametrize("name", ["torchvision:vit_b_16", "timm:vit_tiny_patch16_224"])
def test_the_size_in_the_name_is_that_of_the_pictures(name: str) -> None:
    usual, small = pixels_of(name), pixels_of(f"{name}:size=48")
    assert usual is not None
    assert small == replace(usual, size=(48, 48))
    assert usual.size == (224, 224)


@pytest.mark.parametrize("name", ["wrn-10-1", "preactresnet18:width=4", "torchvision:squeezenet1_0", "timm:resnet10t"])
def test_a_seed_gives_the_same_weights_and_leaves_global_random_numbers_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = create(name, 3, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = create(name, 3, seed=4).state_dict(), create(name, 3, seed=5).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn-17-1", r"depth of 6n\+4 \(10, 16, 22, .*got 17"),
        ("wrn-16-0", "width of at least 1, got 0"),
        ("preactresnet18:width=0", "width of at least 1, got 0"),
        ("WRN-16-1", r"unknown model 'WRN-16-1'; did you mean .*wrn-16-1"),
        ("preactresnet", "did you mean preactresnet18"),
        ("resnet18", "did you mean .*torchvision:resnet18"),
        ("preactresnet18:depth=3", "unknown model .*did you mean .*preactresnet18:width=16"),
        ("torchvision:resnet17", "torchvision has no classifier 'resnet17'; did you mean .*resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision has no classifier"),
        ("torchvision:resnet18:size=32", "resnet18 is not made for pictures of one size.*leave out :size="),
        ("timm:resnet18:size=32", "resnet18 is not made for pictures of one size.*leave out :size="),
        ("torchvision:vit_b_16:size=30", "or not of that one .*leave out :size="),
        ("timm:resnet18x", "timm has no model 'resnet18x'; did you mean .*resnet18"),
        ("timm:hf-hub:somebody/something", "unknown model"),
        ("", "unknown model ''"),
        ("wrn-16-1\x1b[31m", r"unknown model 'wrn-16-1\?\[31m'"),
        ("wrn-16-1\n", "unknown model"),
        ("wrn-99999999994-1", "unknown model"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(NadError, match=message) as caught:
        create(name, 10)
    assert "\x1b" not in str(caught.value)


def test_a_network_needs_a_class() -> None:
    with pytest.raises(NadError, match="at least one class, got 0"):
        create("wrn-16-1", 0)


def test_a_missing_timm_says_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(NadError, match=r"pip install 'nad\[timm\]'"):
        create("timm:resnet18", 10)


SOURCE = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    inside: "int" = 3 * 16 * 16

def network(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(Sizes().inside, classes))

def number(classes):
    return classes

notafunction = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my model.py"
    path.write_text(SOURCE)
    return path


def test_a_factory_of_your_own(file: Path) -> None:
    model = create(f"{file}:network", 6)
    assert isinstance(model, nn.Sequential)
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 6)


def test_a_factory_is_refused_where_the_name_came_from_a_file(file: Path, tmp_path: Path) -> None:
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + SOURCE)
    with pytest.raises(NadError, match="is refused: a file with code"):
        create(f"{file}:network", 6, trusted=False)
    assert not (tmp_path / "ran").exists()
    create(f"{file}:network", 6)
    assert (tmp_path / "ran").exists()


def test_other_names_need_no_trust() -> None:
    create("wrn-10-1", 3, trusted=False)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("netwrk", "has no function netwrk; did you mean network"),
        ("notafunction", "has no function notafunction"),
        ("number", r"expected number\(6\) to return a torch.nn.Module, got int"),
    ],
)
def test_a_factory_that_is_none(file: Path, function: str, message: str) -> None:
    with pytest.raises(NadError, match=message):
        create(f"{file}:{function}", 6)


def test_a_factory_in_no_file(tmp_path: Path) -> None:
    with pytest.raises(NadError, match=r"there is no file .*missing\.py"):
        create(f"{tmp_path}/missing.py:network", 6)
