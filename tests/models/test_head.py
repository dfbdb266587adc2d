"""The classifier of a network and the channels it reads, for every kind of architecture."""

import pytest
import torch
from torch import nn

from nad.errors import NadError
from nad.models.create import create
from nad.models.head import classifier, inputs_of, last_channels

READ = [  # architecture, image size, the layer that reads the last map, its channels, inputs a channel
    ("wrn-16-1", 32, "fc", 64, 1),
    ("preactresnet18", 32, "linear", 512, 1),
    ("torchvision:resnet18", 64, "fc", 512, 1),
    ("torchvision:resnet18", 32, "fc", 512, 1),  # its last map has one position
    ("torchvision:resnet50", 32, "fc", 2048, 1),
    ("torchvision:vgg11", 32, "classifier.0", 512, 49),
    ("torchvision:mobilenet_v3_small", 64, "classifier.0", 576, 1),
    ("torchvision:densenet121", 64, "classifier", 1024, 1),
    ("torchvision:densenet121", 32, "classifier", 1024, 1),
    ("torchvision:efficientnet_b0", 64, "classifier.1", 1280, 1),
    ("torchvision:convnext_tiny", 64, "classifier.2", 768, 1),
    ("torchvision:vit_b_32", 224, "heads.head", 768, 1),
    ("torchvision:swin_t", 64, "head", 768, 1),
    ("torchvision:squeezenet1_1", 64, "classifier.1", 512, 1),
]


@pytest.mark.parametrize(("name", "size", "reader", "count", "group"), READ)
def test_the_layer_that_reads_the_last_map(name, size, reader, count, group):
    model = create(name, 10).eval()
    x = torch.rand(1, 3, size, size)
    channels = last_channels(model, x)
    assert channels.reader is model.get_submodule(reader)
    assert (channels.count, channels.group) == (count, group)
    pruned = torch.zeros(count, dtype=torch.bool)
    pruned[3] = True
    mask = channels.weight_mask(pruned)
    assert mask.shape == channels.reader.weight.shape
    assert int(mask[0].sum()) == group * channels.reader.weight[0, 0].numel()
    with inputs_of(channels.reader) as seen, torch.no_grad():
        model(x)
        assert channels.activation(seen["inputs"]).shape == (count,)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_maps_that_are_joined_pooled_and_flattened_without_a_module():
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.hidden, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(9 * 16, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = torch.nn.functional.max_pool2d(torch.cat([self.conv(x).relu(), x], 1), 2)
            return self.fc(self.hidden(pooled.flatten(1)).relu())

    model = Small()
    channels = last_channels(model, torch.rand(1, 3, 8, 8))
    assert (channels.reader, channels.count, channels.group) == (model.hidden, 9, 16)


def test_activation_is_the_mean_over_images_and_positions():
    channels = last_channels(create("torchvision:vgg11", 4).eval(), torch.rand(1, 3, 32, 32))
    maps = torch.rand(5, 512, 7, 7)
    assert torch.allclose(channels.activation(maps.flatten(1)), maps.mean((0, 2, 3)), atol=1e-6)


@pytest.mark.parametrize(("name", "attribute"), [("wrn-10-1", "fc"), ("torchvision:resnet18", "fc")])
def test_the_classifier_is_the_last_linear_layer(name, attribute):
    model = create(name, 4).eval()
    layer = classifier(model, 4)
    assert layer is getattr(model, attribute)
    with inputs_of(layer) as seen:
        logits = model(torch.rand(2, 3, 32, 32))
        assert torch.allclose(layer(seen["inputs"]), logits)
    assert not any(m._forward_pre_hooks for m in model.modules())
    with pytest.raises(NadError, match="ends in a linear layer of 7 classes"):
        classifier(model, 7)
