"""CLP: bounds by hand, and which BatchNorm belongs to which convolution (G15)."""

import numpy as np
import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import CLP
from nad.defenses.clp import followed, lipschitz
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run


def test_bounds_of_two_channels_by_hand():
    norm = nn.BatchNorm2d(2, eps=0)
    kernel = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(2, 2, 1, 1)
    assert lipschitz(kernel, norm).tolist() == [1, 2]
    norm.running_var = torch.tensor([4.0, 0.25])
    norm.weight.data = torch.tensor([3.0, -1.0])
    assert lipschitz(kernel, norm).tolist() == [1.5, 4]


def test_bounds_against_numpy():
    kernel, norm = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(1)), nn.BatchNorm2d(5)
    norm.running_var = torch.rand(5) + 0.1
    expected = [
        np.linalg.svd(k.reshape(4, 9).numpy())[1][0] / np.sqrt(v + 1e-5)
        for k, v in zip(kernel, norm.running_var.numpy())
    ]
    assert np.allclose(lipschitz(kernel, norm).detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        (
            "wrn-10-1",
            {f"block{b}.layer.0.conv1": f"block{b}.layer.0.bn2" for b in (1, 2, 3)} | {"conv1": "block1.layer.0.bn1"},
        ),
        (
            "torchvision:resnet18",
            {"conv1": "bn1", "layer2.0.downsample.0": "layer2.0.downsample.1", "layer4.1.conv2": "layer4.1.bn2"},
        ),
    ],
)
def test_a_convolution_belongs_to_the_batchnorm_that_is_given_its_output(name, pairs):
    model = create(name, 4)
    names = {module: n for n, module in model.named_modules()}
    found = {names[c]: names[b] for c, b in followed(model, torch.rand(1, 3, 32, 32))}
    assert pairs.items() <= found.items()
    if name.startswith("wrn"):
        assert found == pairs
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_channel_that_stands_out_is_silenced():
    model = create("wrn-10-1", 4)
    first = model.get_submodule("block2.layer.0")
    with torch.no_grad():
        first.conv1.weight[7] *= 20
    images = ImageSet(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 4, tuple("abcd"))
    outcome = CLP()(model, images, Run(device="cpu"))
    assert outcome.notes["pruned"]["block2.layer.0.bn2"] == [7]
    silenced = outcome.model.get_submodule("block2.layer.0.bn2")
    assert (silenced.weight[7].item(), silenced.bias[7].item()) == (0, 0)
    assert torch.equal(silenced.weight[:7], first.bn2.weight[:7])


def test_a_network_without_pairs_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = ImageSet(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 4, tuple("abcd"))
    with pytest.raises(NadError, match="clp needs convolutions followed by BatchNorm"):
        CLP()(model, images, Run(device="cpu"))
