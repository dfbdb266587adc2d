"""Pre-activation ResNet-18 for small images (He et al., ECCV 2016)."""

import torch.nn.functional as F
from torch import Tensor, nn

from nad.errors import NadError


class PreActBlock(nn.Module):
    """A pre-activation basic block: (N, inside, H, W) to (N, outside, H/stride, W/stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        change = inside != outside or stride != 1
        # a Sequential of one because published checkpoints have the key shortcut.0.weight
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False)) if change else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(hidden)
        hidden = F.relu(self.bn2(self.conv1(hidden)), inplace=True)
        return self.conv2(hidden) + shortcut


class PreActResNet18(nn.Module):
    """Four stages of two pre-activation blocks behind a 3x3 convolution of stride 1, without a first pooling.

    Modules are named as in the CIFAR networks that backdoor benchmarks publish checkpoints of. Like them, and
    unlike the paper, it has no batch norm and ReLU between the last stage and the pooling.

    Args:
        classes: length of the output, >= 1.
        width: channels of the first stage, >= 1; the stages have width, 2, 4 and 8 times as many.

    Raises:
        NadError: a width below 1.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise NadError(f"expected a PreActResNet18 width of at least 1, got {width}")
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(PreActBlock(inside, outside, stride), PreActBlock(outside, outside, 1))
