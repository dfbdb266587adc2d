"""The built-in networks: their keys, sizes, mathematics and what in-place operations may not touch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nad.errors import NadError
from nad.models.normalize import Normalized, normalisation, unwrap
from nad.models.preact_resnet import PreActResNet18
from nad.models.wide_resnet import WideResNet

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
WRN_16_1 = """
    conv1
    block1.layer.0.bn1 block1.layer.0.conv1 block1.layer.0.bn2 block1.layer.0.conv2
    block1.layer.1.bn1 block1.layer.1.conv1 block1.layer.1.bn2 block1.layer.1.conv2
    block2.layer.0.bn1 block2.layer.0.conv1 block2.layer.0.bn2 block2.layer.0.conv2 block2.layer.0.convShortcut
    block2.layer.1.bn1 block2.layer.1.conv1 block2.layer.1.bn2 block2.layer.1.conv2
    block3.layer.0.bn1 block3.layer.0.conv1 block3.layer.0.bn2 block3.layer.0.conv2 block3.layer.0.convShortcut
    block3.layer.1.bn1 block3.layer.1.conv1 block3.layer.1.bn2 block3.layer.1.conv2
    bn1
    fc
"""


def expected_keys(modules: str) -> list[str]:
    keys = []
    for name in modules.split():
        last = name.rsplit(".", 1)[-1]
        kinds = BATCH_NORM if last.startswith("bn") else ("weight", "bias") if last == "fc" else ("weight",)
        keys += [f"{name}.{kind}" for kind in kinds]
    return keys


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The network in float64 with no value left at its default, so that no term can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.double().state_dict().items():
            if name.endswith(("running_mean", "bias")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var") or tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


def wrn_oracle(w: dict[str, Tensor], x: Tensor, depth: int, training: bool = False) -> Tensor:
    """A wide residual network from the paper's description, as functions of a state dict."""

    def norm_relu(x: Tensor, name: str) -> Tensor:
        stats = (None, None) if training else (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        return F.batch_norm(x, *stats, w[f"{name}.weight"], w[f"{name}.bias"], training).clamp(min=0)

    x = F.conv2d(x, w["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for i in range((depth - 4) // 6):
            block, stride = f"block{group}.layer.{i}", 2 if group > 1 and i == 0 else 1
            pre = norm_relu(x, f"{block}.bn1")
            out = F.conv2d(pre, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(norm_relu(out, f"{block}.bn2"), w[f"{block}.conv2.weight"], padding=1)
            projection = w.get(f"{block}.convShortcut.weight")
            x = out + (x if projection is None else F.conv2d(pre, projection, stride=stride))
    return F.avg_pool2d(norm_relu(x, "bn1"), 8).flatten(1) @ w["fc.weight"].T + w["fc.bias"]


def preact_oracle(w: dict[str, Tensor], x: Tensor) -> Tensor:
    def norm_relu(x: Tensor, name: str) -> Tensor:
        stats = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        return F.batch_norm(x, *stats, w[f"{name}.weight"], w[f"{name}.bias"]).clamp(min=0)

    x = F.conv2d(x, w["conv1.weight"], padding=1)
    for layer in (1, 2, 3, 4):
        for i in (0, 1):
            block, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            pre = norm_relu(x, f"{block}.bn1")
            out = F.conv2d(pre, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(norm_relu(out, f"{block}.bn2"), w[f"{block}.conv2.weight"], padding=1)
            x = out + (x if stride == 1 else F.conv2d(pre, w[f"{block}.shortcut.0.weight"], stride=stride))
    return x.mean((2, 3)) @ w["linear.weight"].T + w["linear.bias"]


def test_wrn_16_1_has_the_published_keys_and_size() -> None:
    model = WideResNet(16, 1, 10)
    assert list(model.state_dict()) == expected_keys(WRN_16_1)
    assert parameters(model) == 175_066


def test_a_wider_first_group_has_a_shortcut() -> None:
    keys = {key for key in WideResNet(10, 2, 10).state_dict() if "convShortcut" in key}
    assert keys == {f"block{i}.layer.0.convShortcut.weight" for i in (1, 2, 3)}


def test_wrn_28_10_has_36_million_parameters() -> None:
    with torch.device("meta"):
        model = WideResNet(28, 10, 10)
    assert parameters(model) == pytest.approx(36.5e6, rel=1e-3)


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 1), (16, 2), (22, 3)])
def test_wrn_equals_the_oracle(depth: int, width: int) -> None:
    model = shaken(WideResNet(depth, width, 7)).eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), wrn_oracle(model.state_dict(), x, depth), rtol=1e-9, atol=1e-9)


def test_wrn_gradients_equal_the_oracles() -> None:
    model = shaken(WideResNet(16, 2, 7)).train()
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    names, values = zip(*model.named_parameters())
    got = torch.autograd.grad(model(x).square().sum(), values)
    want = torch.autograd.grad(wrn_oracle(dict(zip(names, values)), x, 16, training=True).square().sum(), values)
    for name, ours, theirs in zip(names, got, want):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_preactresnet18_equals_the_oracle() -> None:
    model = shaken(PreActResNet18(7, width=4)).eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), preact_oracle(model.state_dict(), x), rtol=1e-9, atol=1e-9)


def test_preactresnet18_has_the_published_keys_and_size() -> None:
    model = PreActResNet18(10)
    children = [name for name, _ in model.named_children()]
    assert children == ["conv1", "layer1", "layer2", "layer3", "layer4", "linear"]
    shortcuts = [key for key in model.state_dict() if "shortcut" in key]
    assert shortcuts == [f"layer{i}.0.shortcut.0.weight" for i in (2, 3, 4)]
    assert parameters(model) == 11_171_146


@pytest.mark.parametrize("model", [WideResNet(10, 1, 5), PreActResNet18(5, width=4)], ids=["wrn", "preact"])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (64, 48), (33, 17)])
def test_any_image_size_is_taken(model: nn.Module, size: tuple[int, int]) -> None:
    assert model(torch.rand(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("model", "stages", "shapes"),
    [
        (WideResNet(16, 1, 10), ("block1", "block2", "block3"), [(16, 32, 32), (32, 16, 16), (64, 8, 8)]),
        (
            PreActResNet18(10, width=8),
            ("layer1", "layer2", "layer3", "layer4"),
            [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)],
        ),
    ],
    ids=["wrn", "preact"],
)
def test_stage_outputs_are_not_overwritten_by_what_follows(
    model: nn.Module, stages: tuple[str, ...], shapes: list[tuple[int, ...]]
) -> None:
    held, copied = [], []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        held.append(out)
        copied.append(out.clone())

    for stage in stages:
        model.get_submodule(stage).register_forward_hook(hook)
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert [tuple(out.shape[1:]) for out in held] == shapes
    assert all(torch.equal(a, b) for a, b in zip(held, copied))
    assert all(out.min() < 0 for out in held)  # the residual stream, before any ReLU


@pytest.mark.parametrize("model", [WideResNet(10, 1, 5), PreActResNet18(5, width=8)], ids=["wrn", "preact"])
def test_channels_last_and_bf16_survive_to_the_last_stage(model: nn.Module) -> None:
    model.to(memory_format=torch.channels_last)
    last: list[Tensor] = []
    list(model.children())[-3 if isinstance(model, WideResNet) else -2].register_forward_hook(
        lambda _, __, out: last.append(out)
    )
    x = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().sum().backward()
    assert last[0].dtype == torch.bfloat16
    assert last[0].is_contiguous(memory_format=torch.channels_last)


def test_initial_weights_are_hes() -> None:
    model = WideResNet(16, 4, 10)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.bias is None
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1), name
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
    assert model.fc.bias.eq(0).all()


@pytest.mark.parametrize("depth", [4, 9, 11, 17, -2])
def test_an_illegal_depth_is_refused(depth: int) -> None:
    with pytest.raises(NadError, match=rf"depth of 6n\+4 .*10, 16, 22.*got {depth}"):
        WideResNet(depth, 1, 10)


def test_an_illegal_width_is_refused() -> None:
    with pytest.raises(NadError, match="WRN width of at least 1, got 0"):
        WideResNet(16, 0, 10)
    with pytest.raises(NadError, match="PreActResNet18 width of at least 1, got 0"):
        PreActResNet18(10, width=0)


def test_normalisation_lives_inside_and_leaves_the_keys_alone() -> None:
    inner = WideResNet(10, 1, 10).eval()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    model = Normalized(inner, mean, std).eval()
    x = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(model(x), inner(by_hand))
    assert unwrap(model) is inner
    assert unwrap(inner) is inner
    assert normalisation(model) == (mean, std)
    assert normalisation(inner) is None
    assert set(model.state_dict()) == {f"model.{key}" for key in inner.state_dict()}


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.5,)), ((0.5,) * 3, (0.0, 1.0, 1.0)), ((math.nan, 0.0, 0.0), (1.0,) * 3)]
)
def test_a_normalisation_that_cannot_be_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(NadError, match="3 means and 3 positive deviations"):
        Normalized(nn.Identity(), mean, std)
