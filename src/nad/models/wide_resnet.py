"""Wide residual networks for small images (Zagoruyko and Komodakis, BMVC 2016)."""

import torch.nn.functional as F
from torch import Tensor, nn

from nad.errors import NadError


class Block(nn.Module):
    """A pre-activation basic block: (N, inside, H, W) to (N, outside, H/stride, W/stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        # camel case because published checkpoints have this key
        self.convShortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if inside != outside else None

    def forward(self, x: Tensor) -> Tensor:
        # every in-place operation writes to a batch norm's or a convolution's own output, which nobody else holds
        hidden = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(hidden)
        hidden = F.relu(self.bn2(self.conv1(hidden)), inplace=True)
        return self.conv2(hidden) + shortcut


class Group(nn.Module):
    """The blocks of one resolution; the first one changes channels and stride."""

    def __init__(self, count: int, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        first = Block(inside, outside, stride)
        self.layer = nn.Sequential(first, *(Block(outside, outside, 1) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-width: a 3x3 convolution, three groups of pre-activation blocks, pooling and a linear layer.

    Modules are named as in the widely used PyTorch port, so that published checkpoints load as they are.

    Args:
        depth: 6n + 4 with n >= 1; n blocks in each group.
        width: k >= 1; the groups have 16k, 32k and 64k channels.
        classes: length of the output, >= 1.

    Raises:
        NadError: a depth or width that no such network has.

    Deviation from the paper: the average over the whole last map replaces the fixed 8x8 pooling, so any image
    size is taken; at 32x32 both are the same.
    """

    def __init__(self, depth: int, width: int, classes: int) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise NadError(f"expected a WRN depth of 6n+4 (10, 16, 22, 28, 34, 40, ...), got {depth}")
        if width < 1:
            raise NadError(f"expected a WRN width of at least 1, got {width}")
        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Group(count, 16, 16 * width, 1)
        self.block2 = Group(count, 16 * width, 32 * width, 2)
        self.block3 = Group(count, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
