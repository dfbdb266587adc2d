"""Every tapped stage of every architecture carries a gradient; every dead tap is caught."""

import math

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import NAD, Finetune
from nad.errors import NadError
from nad.guard import signals
from nad.models.create import create
from nad.models.stages import Stage, find_stages
from nad.runtime import Run

ARCHITECTURES = [
    *("wrn-10-1", "wrn-16-1", "wrn-16-2", "wrn-40-1", "preactresnet18:width=8"),
    *(f"torchvision:{n}" for n in ("resnet18", "resnext50_32x4d", "vgg11", "vgg16_bn", "densenet121", "mobilenet_v2")),
    *(
        f"torchvision:{n}"
        for n in ("mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf", "swin_t")
    ),
]


def inputs(size: int = 32, n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, size, size, generator=generator), torch.arange(n) % 4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_tap_found_carries_a_gradient(name):
    model = create(name, 4)
    x, y = inputs()
    stages = find_stages(model, x[:2])
    found = signals(model, stages, x, y)
    assert len(found) >= 2
    for signal in found:
        assert not signal.dead, str(signal)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


class Pooled(nn.Module):
    """A network with live stages and, behind them, taps that are dead in the ways seen in the wild."""

    def __init__(self) -> None:
        super().__init__()
        self.resize = nn.Upsample(size=(16, 16), mode="bilinear")
        self.stage1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.grow = nn.Upsample(size=(7, 7))
        self.fc = nn.Linear(8 * 49, 4)

    def forward(self, x):
        x = self.stage2(self.stage1(self.resize(x)))
        return self.fc(self.grow(self.pool(x)).flatten(1))


def dead(model: nn.Module, name: str, channels: int, side: int) -> bool:
    x, y = inputs()
    return signals(model, [Stage(name, channels, side, side, "nchw")], x, y)[0].dead


def test_pooled_grown_and_input_taps_are_dead_and_real_ones_live():
    model = Pooled()
    assert dead(model, "pool", 8, 1)
    assert dead(model, "grow", 8, 7), "a pooled map that was grown again is the same everywhere"
    assert dead(model, "resize", 3, 16), "no parameter stands before the input's resize"
    assert not dead(model, "stage1", 8, 16)
    assert not dead(model, "stage2", 8, 8)


def images(n: int = 64) -> ImageSet:
    x, _ = inputs(n=n)
    return ImageSet((x * 255).byte(), torch.arange(n) % 4, tuple("abcd"))


def test_a_dead_tap_that_the_user_named_is_an_error():
    for name in ("pool", "grow", "resize"):
        method = NAD(stages=("stage1", name), lr=0.01, beta=(1.0,), epochs=1, batch=16, teacher=Finetune(lr=0.1))
        with pytest.raises(NadError, match=f"{name}"):
            method(Pooled(), images())


class Dying(nn.Module):
    """Its last stages are rectifiers that never fire: found by probing, and without signal."""

    def __init__(self, live: int) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.stage3 = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4)
        for stage in (self.stage1, self.stage2, self.stage3)[live:]:
            nn.init.constant_(stage[0].bias, -100.0)

    def forward(self, x):
        return self.fc(self.pool(self.stage3(self.stage2(self.stage1(x)))).flatten(1))


def test_a_dead_tap_found_by_probing_is_dropped_and_reported_and_fewer_than_two_left_are_an_error():
    method = NAD(lr=0.01, beta=(1.0,), epochs=1, batch=16, teacher=Finetune(lr=0.001, epochs=1))
    notes = method(Dying(live=2), images()).notes
    assert notes["stages"] == ["stage1.1", "stage2.1"]
    assert len(notes["dropped_stages"]) == 1
    assert len(notes["stages"]) == len(notes["betas"])
    assert notes["dropped_stages"][0].startswith("stage3.1 (spread 0")
    with pytest.raises(NadError, match=r"stage1\.1.*--stages"):
        method(Dying(live=1), images())
    with pytest.raises(NadError, match="every stage that was found carries no signal"):
        method(Dying(live=0), images())


def test_the_guard_does_not_fire_when_teacher_and_student_agree():
    model = create("wrn-10-1", 4)
    method = NAD(lr=0.01, beta=(1.0,), epochs=1, batch=16, teacher=Finetune(lr=1e-12, epochs=1))
    outcome = method(model, images(), Run(precision="fp32"))
    assert outcome.notes["stages"] == ["block1", "block2", "block3"]
    assert outcome.notes["dropped_stages"] == []
    assert math.isfinite(outcome.history[0]["attention_1"])
