"""Optional packages, random streams and precision."""

import pytest
import torch
from torch import nn

from nad import extras
from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.detection.base import DETECTORS
from nad.errors import NadError
from nad.runtime import Run
from nad.seeding import derive, generator


def test_a_missing_extra_says_the_line_that_installs_it():
    with pytest.raises(NadError, match=r"no_such_package is needed .* Run: pip install 'nad\[timm\]'"):
        extras.require("no_such_package", "timm")


def test_torchvision_loads_whatever_build_of_torch_stands_beside_it():
    assert extras.torchvision("models").resnet18(num_classes=3).fc.out_features == 3


def test_streams_are_named_repeatable_and_apart():
    assert derive(1, "order") == derive(1, "order") == 620558406644582515
    assert len({derive(s, n) for s in range(20) for n in ("order", "augmentation", "poison")}) == 60
    one, two = generator(3, "order"), generator(3, "order")
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=two))


def test_a_child_run_is_another_stream_and_the_global_one_is_untouched():
    run = Run(seed=5)
    assert run.child("a").seed != run.child("b").seed != run.seed
    before = torch.get_rng_state()
    with run.seeded("modules"):
        first = torch.rand(2)
    with run.seeded("modules"):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_auto_takes_no_bf16_for_depthwise_convolutions_on_a_cpu(monkeypatch):
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ChannelShuffle(2))  # which has groups and no channels
    depthwise = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    monkeypatch.setattr("nad.runtime._multiplies_in_bf16", lambda device: True)
    run = Run(seed=3, device="cpu")
    assert run.suiting(plain) is run
    assert run.resolved_precision == "bf16"
    assert not run.suited
    assert run.suiting(depthwise).describe() == {"seed": 3, "device": "cpu", "precision": "fp32"}
    assert run.suited == ["fp32"]
    asked = Run(device="cpu", precision="bf16")
    assert asked.suiting(depthwise) is asked, "what is asked for is taken"


@pytest.mark.parametrize(("groups", "precision"), [(2, "bf16"), (4, "fp32")])
def test_erasers_and_detectors_in_python_compute_in_what_suits_the_network(groups, precision, monkeypatch):
    monkeypatch.setattr("nad.runtime._multiplies_in_bf16", lambda device: True)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=groups), nn.Flatten(), nn.Linear(16, 2))
    images = ImageSet(torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"))
    used: list[str] = []

    def told(own, model, images, run, inputs=None):
        used.append(run.resolved_precision)
        raise NadError("enough")

    for method, way in ((DEFENSES.create("finetune:lr=0.01"), "erase"), (DETECTORS.create("universal"), "scores")):
        monkeypatch.setattr(type(method), way, told)
        with pytest.raises(NadError, match="enough"):
            method(network, images, Run(device="cpu"))
    assert used == [precision] * 2


def test_precision_and_device_are_resolved_and_said():
    assert Run(device="cpu", precision="fp32").describe() == {"seed": 0, "device": "cpu", "precision": "fp32"}
    assert Run(device="cpu").resolved_precision in ("fp32", "bf16")
    if not torch.cuda.is_available():
        with pytest.raises(NadError, match=r"--device cuda: this machine .* has none; use --device auto"):
            Run(device="cuda").describe()
