"""Stages: the layers found in real architectures, and what probing and tapping must not do to a network."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nad.errors import NadError
from nad.extras import torchvision
from nad.models.normalize import Normalized
from nad.models.preact_resnet import PreActResNet18
from nad.models.stages import Stage, find_stages, layer, stage, tap
from nad.models.wide_resnet import WideResNet

models = torchvision("models")


@dataclass(frozen=True)
class Case:
    """An architecture, its stage ends, and the side of each one's map by the side of the image."""

    label: str
    build: Callable[[], nn.Module]
    names: str
    sides: Mapping[int, tuple[int, ...]]
    layout: str = "nchw"
    skip: int = 0

    def expected(self, size: int) -> list[tuple[str, int, int, str, int]]:
        pairs = zip(self.names.split(), self.sides[size], strict=True)
        return [(name, side, side, self.layout, self.skip) for name, side in pairs if side * side >= 4]


def from_torchvision(
    label: str, names: str, sides: Mapping[int, tuple[int, ...]] | None = None, layout: str = "nchw"
) -> Case:
    return Case(label, lambda: getattr(models, label)(weights=None), names, sides or FOUR, layout)


def from_timm(name: str, names: str, sides: Mapping[int, tuple[int, ...]], layout: str = "nchw", **how: object) -> Case:
    def build() -> nn.Module:
        return pytest.importorskip("timm").create_model(name, pretrained=False, **how)

    label = "-".join(["timm", name, *([str(how["img_size"])] if "img_size" in how else [])])
    return Case(label, build, names, sides, layout, int(layout == "tokens"))


def timm_swin(size: int) -> Case:
    """Narrow, because its weights are slow to draw."""
    stages, sides = "layers.0 layers.1 layers.2 layers.3", {size: FOUR[size]}
    name = "swin_tiny_patch4_window7_224"
    return from_timm(name, stages, sides, "nhwc", img_size=size, embed_dim=24, num_heads=(1, 2, 4, 8))


def vgg(label: str, names: str) -> Case:
    def build() -> nn.Module:
        """The network as it is, but for the width of its classifier: 120 million parameters take seconds to draw."""
        with torch.device("meta"):
            net = getattr(models, label)(weights=None)
            net.classifier = nn.Sequential(nn.Linear(25088, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10))
        net.to_empty(device="cpu")
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return net

    return Case(label, build, names, {32: (16, 8, 4, 2), 224: (112, 56, 28, 14)})


def small_vit(layers: int = 4) -> nn.Module:
    net = models.VisionTransformer(32, 4, layers, 2, 32, 64, num_classes=10)
    nn.init.normal_(net.heads.head.weight)
    return net


FOUR = {32: (8, 4, 2, 1), 224: (56, 28, 14, 7)}
LAYERS = "layer1 layer2 layer3 layer4"
ODD = "features.1 features.3 features.5 features.7"
DENSE = "features.denseblock1 features.denseblock2 features.denseblock3 features.denseblock4"
QUARTERS = "blocks.2 blocks.5 blocks.8 blocks.11"
ENCODER = " ".join(f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11))
CASES = [
    Case("wrn-16-1", lambda: WideResNet(16, 1, 10), "block1 block2 block3", {32: (32, 16, 8), 224: (224, 112, 56)}),
    Case("wrn-16-2", lambda: WideResNet(16, 2, 10), "block1 block2 block3", {32: (32, 16, 8)}),
    Case("wrn-10-1", lambda: WideResNet(10, 1, 10), "block1 block2 block3", {32: (32, 16, 8)}),
    Case("preactresnet18", lambda: PreActResNet18(10, 8), LAYERS, {32: (32, 16, 8, 4), 224: (224, 112, 56, 28)}),
    from_torchvision("resnet18", LAYERS),
    from_torchvision("resnet50", LAYERS),
    from_torchvision("wide_resnet50_2", LAYERS),
    from_torchvision("resnext50_32x4d", LAYERS),
    vgg("vgg16", "features.8 features.15 features.22 features.29"),
    vgg("vgg16_bn", "features.12 features.22 features.32 features.42"),
    vgg("vgg19_bn", "features.12 features.25 features.38 features.51"),
    from_torchvision("densenet121", DENSE),
    from_torchvision("mobilenet_v2", "features.3 features.6 features.13 features.17"),
    from_torchvision("mobilenet_v3_large", "features.3 features.6 features.12 features.15"),
    from_torchvision("efficientnet_b0", "features.2 features.3 features.5 features.7"),
    from_torchvision("convnext_tiny", ODD),
    from_torchvision("regnet_y_400mf", " ".join(f"trunk_output.block{i}" for i in (1, 2, 3, 4))),
    from_torchvision("shufflenet_v2_x1_0", "stage2 stage3 stage4", {32: (4, 2, 1), 224: (28, 14, 7)}),
    from_torchvision("swin_t", ODD, layout="nhwc"),
    Case("vit-12-layers", lambda: small_vit(12), ENCODER, {32: (8,) * 4}, "tokens", 1),
    from_timm("resnet18", LAYERS, FOUR),
    from_timm("vit_tiny_patch16_224", QUARTERS, {32: (2,) * 4}, "tokens", img_size=32),
    timm_swin(32),
    from_timm("convnext_atto", "stages.0 stages.1 stages.2 stages.3", FOUR),
    from_timm("densenet121", DENSE, FOUR),
    from_timm("mobilenetv3_large_100", "blocks.1 blocks.2 blocks.4 blocks.5", FOUR),
    Case("vit_b_16", lambda: models.vit_b_16(weights=None), ENCODER, {224: (14,) * 4}, "tokens", 1),
    from_timm("vit_tiny_patch16_224", QUARTERS, {224: (14,) * 4}, "tokens", img_size=224),
    timm_swin(224),
]
SMALL = [case for case in CASES if 32 in case.sides]  # a prefix: pytest then builds each network once for all tests


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> tuple[Case, nn.Module]:
    torch.manual_seed(0)
    return request.param, request.param.build()


def over(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("built", cases, ids=lambda case: case.label, indirect=True)


def pictures(size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size)


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def described(stages: tuple[Stage, ...]) -> list[tuple[str, int, int, str, int]]:
    return [(s.name, s.height, s.width, s.layout, s.skip) for s in stages]


def names(model: nn.Module, size: int = 32, limit: int = 4) -> list[str]:
    return [s.name for s in find_stages(model, pictures(size), limit)]


# The layers


@over(CASES)
def test_the_stages_of_known_architectures(built: tuple[Case, nn.Module]) -> None:
    case, model = built
    for size in case.sides:
        found = find_stages(model, pictures(size, 1 if size > 100 else 2))
        assert described(found) == case.expected(size)


class Shell(nn.Module):
    """A class of the user's around a network, with something of its own behind it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 2 - 1) / 4


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda net: nn.Sequential(nn.BatchNorm2d(3), net), "1."),
        (lambda net: Normalized(net, (0.5,) * 3, (0.2,) * 3), ""),
        (lambda net: Normalized(Shell(net), (0.5,) * 3, (0.2,) * 3), "net."),
        (lambda net: Shell(Shell(net)), "net.net."),
    ],
)
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.label in ("wrn-16-1", "vgg16", "mobilenet_v2", "vit-12-layers")]
)
def test_names_of_a_wrapped_network_include_the_path_but_for_our_own_wrappers(
    wrap: Callable[[nn.Module], nn.Module], prefix: str, case: Case
) -> None:
    expected = [(prefix + name, *rest) for name, *rest in case.expected(32)]
    assert described(find_stages(wrap(case.build()), pictures(32))) == expected


def test_a_name_is_of_the_network_of_the_user_where_our_wrapper_makes_another_of_it() -> None:
    inner = nn.ModuleDict({"stem": nn.Conv2d(3, 3, 1)})
    net = nn.ModuleDict({"stem": nn.Conv2d(3, 3, 1), "model": inner})
    wrapped = Normalized(net, (0.5,) * 3, (0.2,) * 3)
    assert layer(wrapped, "model.stem") is inner["stem"]
    assert layer(wrapped, "model.model.stem") is inner["stem"]
    assert layer(wrapped, "stem") is net["stem"]


def test_a_wide_resnet_has_the_shapes_of_the_paper() -> None:
    found = find_stages(WideResNet(16, 1, 10), pictures(32))
    assert [(s.channels, s.height, s.width) for s in found] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert [s.positions for s in found] == [1024, 256, 64]


def test_images_need_not_be_square() -> None:
    found = find_stages(WideResNet(16, 2, 10), torch.rand(2, 3, 32, 64))
    assert [(s.channels, s.height, s.width, s.layout) for s in found] == [
        (32, 32, 64, "nchw"),
        (64, 16, 32, "nchw"),
        (128, 8, 16, "nchw"),
    ]
    swin = models.SwinTransformer([4, 4], 8, [1] * 4, [1, 2, 4, 8], [7, 7], num_classes=10)
    found = find_stages(swin, torch.rand(2, 3, 64, 36))
    assert [(s.channels, s.height, s.width, s.layout) for s in found] == [
        (8, 16, 9, "nhwc"),
        (16, 8, 5, "nhwc"),
        (32, 4, 3, "nhwc"),
        (64, 2, 2, "nhwc"),
    ]


@pytest.mark.parametrize(
    ("depth", "limit", "expected"),
    [(1, 4, [0]), (2, 4, [0, 1]), (4, 4, [0, 1, 2, 3]), (6, 4, [1, 2, 4, 5]), (6, 2, [2, 5]), (6, 3, [1, 3, 5])],
)
def test_one_resolution_is_tapped_at_even_parts_of_the_depth(depth: int, limit: int, expected: list[int]) -> None:
    assert names(small_vit(depth), limit=limit) == [f"encoder.layers.encoder_layer_{i}" for i in expected]


def test_the_limit_keeps_the_deepest() -> None:
    assert names(WideResNet(16, 1, 10), limit=2) == ["block2", "block3"]
    assert names(models.mobilenet_v2(weights=None), 64, limit=5)[0] == "features.1"


def conv(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, stride, 1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class SharedLayers(nn.Module):
    """One ReLU and one pool object for all places, as in many hand-written networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.pool, self.answer = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.first(x)))
        x = self.pool(self.relu(self.second(x)))
        return self.answer(x.flatten(1))


class Gated(nn.Module):
    """A block with a residual path and a gate of one position, neither of which is the trunk."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(*conv(inside, outside, stride), *conv(outside, outside))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(outside, 4, 1), nn.Conv2d(4, outside, 1))
        self.short = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(inside, outside, 1))

    def forward(self, x: Tensor) -> Tensor:
        path = self.path(x)
        return self.short(x) + path * self.gate(path).sigmoid()


HANDWRITTEN = {
    "a pool ends each block: the activation before it": (
        [nn.Sequential(*conv(inside, 8), *conv(8, 8), nn.MaxPool2d(2)) for inside in (3, 8, 8)],
        "0.5 1.5 2.5",
    ),
    "a pool that starts a block belongs to the block": (
        [nn.Sequential(*conv(3, 8), *conv(8, 8)), nn.Sequential(nn.MaxPool2d(2), *conv(8, 8), *conv(8, 8))],
        "0 1",
    ),
    "strides instead of pools": ([nn.Sequential(*conv(3, 8), *conv(8, 8, 2), *conv(8, 8, 2))], "0.2 0.5 0.8"),
    "two convolutions": ([nn.Sequential(*conv(3, 8), nn.MaxPool2d(2), *conv(8, 8))], "0.2 0.6"),
    "an idle dropout and a resized map": (
        [*conv(3, 8), nn.Dropout(), nn.MaxPool2d(2), *conv(8, 8), nn.Upsample(scale_factor=2)],
        "2 7",
    ),
    "stem, blocks with side paths, head": (
        [
            nn.Sequential(*conv(3, 8)),
            nn.Sequential(Gated(8, 8, 1), Gated(8, 8, 1)),
            nn.Sequential(Gated(8, 8, 2), Gated(8, 8, 1)),
            nn.Sequential(*conv(8, 8)),
        ],
        "1 2",
    ),
}


@pytest.mark.parametrize(("layers", "expected"), HANDWRITTEN.values(), ids=HANDWRITTEN)
def test_handwritten_networks(layers: list[nn.Module], expected: str) -> None:
    assert names(nn.Sequential(*layers, *head(8))) == expected.split()


def test_a_layer_used_at_several_places_is_no_stage_but_at_the_last() -> None:
    assert names(SharedLayers()) == ["first", "relu"]


class Discarding(nn.Module):
    """Computes something after its answer, and drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Sequential(*conv(3, 8), *conv(8, 8)), nn.Sequential(*conv(8, 8, 2), *conv(8, 8)))
        self.spare, self.answer = nn.Sequential(*conv(8, 8, 2), *conv(8, 8)), nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        answer = self.answer(x)
        self.spare(x)
        return answer


def test_what_the_answer_does_not_need_is_no_stage() -> None:
    assert names(Discarding()) == ["body.0", "body.1"]


def test_a_network_without_maps_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10))
    with pytest.raises(NadError, match=r"no feature map of at least 4 positions in Sequential for images of 8x8"):
        find_stages(model, pictures(8))


# Probing leaves no trace


@over(SMALL)
def test_probing_leaves_no_trace(built: tuple[Case, nn.Module]) -> None:
    _, model = built
    model.train()
    next(model.children()).eval()
    x = pictures(32)
    weights, modes, random = (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
        torch.get_rng_state(),
    )
    find_stages(model, x)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert hooks(model) == 0
    assert all(p.grad is None for p in model.parameters())


class Restless(nn.Module):
    """Counts its calls in buffers, fails where it should, and is random in evaluation too."""

    count: Tensor
    seen: Tensor

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.body, self.answer, self.fail = nn.Sequential(*conv(3, 8), *conv(8, 8)), nn.Linear(8, 10), fail
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.modes = {module.training for module in self.modules()}
        self.count += 1
        self.seen = self.seen + x.mean()
        x = F.dropout(self.body(x), training=True)
        if self.fail:
            raise RuntimeError("not these images")
        return self.answer(x.mean((2, 3)))


def test_a_restless_network_is_put_back() -> None:
    model, x = Restless(), pictures(8)
    state, seen = torch.get_rng_state(), model.seen
    find_stages(model, x)
    assert model.modes == {False}
    assert model.count.item() == 0
    assert model.seen is seen
    assert model.seen.item() == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failing_probe_is_put_back() -> None:
    model = Restless(fail=True)
    with pytest.raises(RuntimeError, match="not these images"):
        find_stages(model, pictures(8))
    assert hooks(model) == 0
    assert all(m.training for m in model.modules())
    assert model.count.item() == 0


# Tapping


@over(SMALL)
def test_tapping_changes_no_output(built: tuple[Case, nn.Module]) -> None:
    _, model = built
    model.eval()
    x = pictures(32)
    stages = find_stages(model, x)
    with torch.no_grad():
        plain = model(x)
        with tap(model, stages) as maps:
            assert hooks(model) == len(stages)
            tapped = model(x)
            first = dict(maps)
            model(1 - x)
        assert hooks(model) == 0
    assert torch.equal(plain, tapped)
    assert [(name, *m.shape) for name, m in first.items()] == [
        (s.name, len(x), s.channels, s.height, s.width) for s in stages
    ]
    assert not any(torch.equal(first[name], maps[name]) for name in first), "the second pass did not fill the taps"


@over(SMALL)
def test_a_gradient_reaches_what_each_tap_comes_from(built: tuple[Case, nn.Module]) -> None:
    _, model = built
    model.eval()
    x = pictures(32)
    stages = find_stages(model, x)
    with tap(model, stages) as maps:
        model(x)
    kernels = [p for p in model.parameters() if p.dim() == 4]
    for found in stages:
        within = list(model.get_submodule(found.name).parameters())
        wanted = [kernels[0], *within]
        loss = maps[found.name].pow(2).sum(1).flatten(1).norm(dim=1).sum()
        grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        assert grads[0] is not None
        assert grads[0].abs().sum() > 0
        assert not within or any(g is not None and g.abs().sum() > 0 for g in grads[1:])


class Rearranged(nn.Module):
    """The same map with its axes in three orders, and once in windows."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.nchw = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, padding=1))
        self.nhwc, self.doubled, self.tokens, self.windows = (nn.Identity() for _ in range(4))
        self.extra = nn.Parameter(torch.randn(1, 5, channels))
        self.answer = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.nchw(x).permute(0, 2, 3, 1)
        x = self.nhwc(self.doubled(torch.cat([x, x], 3))[..., : x.shape[3]])
        x = self.tokens(torch.cat([self.extra.expand(len(x), -1, -1), x.flatten(1, 2)], 1))
        x = x[:, :1] + self.windows(x[:, 5:].unflatten(1, (-1, 2))).mean(2)
        return self.answer(x.mean(1))


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 3, 16, 24), (2, 3, 4, 4)])
def test_every_layout_gives_the_same_map(shape: tuple[int, ...]) -> None:
    model, x = Rearranged(), torch.rand(shape)
    stages = [stage(model, x, name) for name in ("nchw", "nhwc", "tokens")]
    assert [(s.layout, s.skip) for s in stages] == [("nchw", 0), ("nhwc", 0), ("tokens", 5)]
    with tap(model, stages) as maps:
        model(x)
    assert maps["nchw"].shape == (shape[0], 6, shape[2] // 2, shape[3] // 2)
    assert torch.equal(maps["nhwc"], maps["nchw"])
    assert torch.equal(maps["tokens"], maps["nchw"])


def test_where_channels_and_positions_look_alike_the_map_before_decides() -> None:
    model, x = Rearranged(8), pictures(16)
    assert [stage(model, x, name).layout for name in ("nchw", "doubled", "nhwc")] == ["nchw", "nhwc", "nhwc"]


def test_windows_are_no_map() -> None:
    with pytest.raises(NadError, match=r"'windows' cannot be tapped: .* got \(2, 32, 2, 6\)"):
        stage(Rearranged(), pictures(16), "windows")


def test_channels_last_memory_gives_the_same_map() -> None:
    model, x = WideResNet(10, 1, 10).eval(), pictures(32)
    stages = find_stages(model, x)
    with torch.no_grad(), tap(model, stages) as plain:
        model(x)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert find_stages(model, x.to(memory_format=torch.channels_last)) == stages
    with torch.no_grad(), tap(model, stages) as other:
        model(x.to(memory_format=torch.channels_last))
    for name, kept in plain.items():
        torch.testing.assert_close(other[name], kept)


@pytest.mark.parametrize("label", ["vgg16", "vgg16_bn"])
def test_taps_are_not_overwritten_by_layers_that_work_in_place(label: str) -> None:
    model = next(case for case in CASES if case.label == label).build().eval()
    careful = copy.deepcopy(model)
    for module in careful.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    x = pictures(32)
    stages = [*find_stages(model, x), stage(model, x, "features.0"), stage(model, x, "features.19")]
    with tap(model, stages) as maps, tap(careful, stages) as right:
        model(x).sum().backward()
        careful(x)
    assert all(torch.equal(maps[s.name], right[s.name]) for s in stages)
    assert min(maps["features.0"].min(), maps["features.19"].min()) < 0
    assert all(isinstance(model.get_submodule(s.name), nn.ReLU) for s in stages[:4])


@pytest.mark.parametrize("inside", [True, False], ids=["in the context", "in the network"])
def test_an_exception_takes_the_hooks_off(inside: bool) -> None:
    model, x = Restless(), pictures(8)
    stages = find_stages(model, x)
    model.fail = not inside
    with pytest.raises(RuntimeError), tap(model, stages):  # noqa: PT012
        assert hooks(model) == len(stages)
        model(x)
        raise RuntimeError("in the context")
    assert hooks(model) == 0


def test_hooks_of_others_stay() -> None:
    model, calls = WideResNet(10, 1, 10), []
    handle = model.block1.register_forward_hook(lambda *_: calls.append(1))
    with tap(model, find_stages(model, pictures(32))):
        model(pictures(32))
    assert hooks(model) == 1
    assert len(calls) == 2
    handle.remove()


# Taps that the user names


def test_a_named_layer() -> None:
    model = WideResNet(16, 1, 10)
    assert stage(model, pictures(32), "block2.layer.0") == Stage("block2.layer.0", 32, 16, 16, "nchw")
    assert [stage(model, pictures(32), s.name) for s in find_stages(model, pictures(32))] == list(
        find_stages(model, pictures(32))
    )


def test_a_layer_is_named_as_in_the_network_itself() -> None:
    inner = WideResNet(10, 1, 10)
    model = Normalized(inner, [0.5] * 3, [0.5] * 3)
    found = stage(model, pictures(32), "block2")
    assert found == stage(inner, pictures(32), "block2")
    with tap(model, [found]) as seen:
        model(pictures(32))
    assert seen["block2"].shape[1:] == (32, 16, 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blok2", r"no layer 'blok2'; it has block2"),
        ("zzz", r"no layer 'zzz'; it has conv1, block1, block2, block3, bn1, fc"),
        ("block\x1b[2J", r"no layer 'block\?\[2J'"),
        ("fc", r"'fc' cannot be tapped: expected a feature map .* got \(2, 10\)"),
    ],
)
def test_a_name_that_cannot_be_tapped(name: str, message: str) -> None:
    with pytest.raises(NadError, match=message):
        stage(WideResNet(10, 1, 10), pictures(32), name)


def test_a_layer_that_is_never_called_or_gives_no_tensor() -> None:
    model = WideResNet(10, 1, 10)
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(NadError, match="'spare' cannot be tapped: the forward pass does not call it"):
        stage(model, pictures(32), "spare")
    attention = "encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(NadError, match="got no tensor"):
        stage(small_vit(1), pictures(32), attention)


def test_a_stage_of_another_network_cannot_be_tapped() -> None:
    model = WideResNet(10, 1, 10)
    with pytest.raises(NadError, match="no layer 'layer1'"), tap(model, [Stage("layer1", 64, 8, 8, "nchw")]):
        pass
    assert hooks(model) == 0
