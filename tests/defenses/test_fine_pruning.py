"""Fine-pruning: which channels, how many, and that they stay cut (G15)."""

import pytest
import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses import DEFENSES
from nad.defenses.fine_pruning import cut, ranking
from nad.errors import NadError
from nad.models.create import create
from nad.runtime import Run

RUN = Run(device="cpu", precision="fp32")


class Means(nn.Module):
    """Four channels of known mean activation on grey images of value 1: .1, .5, 0 and .9."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.conv.weight.data = torch.tensor([0.1, 0.5, -1.0, 0.9]).view(4, 1, 1, 1).expand(4, 3, 1, 1) / 3
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def white(n: int = 64) -> ImageSet:
    return ImageSet(torch.full((n, 3, 8, 8), 255, dtype=torch.uint8), torch.arange(n) % 4, tuple("abcd"))


def test_channels_go_in_the_order_of_their_mean_activation():
    channels, order = ranking(Means(), white(), RUN)
    assert channels.count == 4
    assert order.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_cutting_k_channels_cuts_exactly_k(count):
    model, images = Means(), white()
    before = model.fc.weight.detach().clone()
    cut(model, images, RUN, ranking(model, images, RUN)[1][:count])
    gone = (model.fc.weight == 0).all(0)
    assert gone.nonzero().flatten().tolist() == sorted([2, 0, 1, 3][:count])
    assert torch.equal(model.fc.weight[:, ~gone], before[:, ~gone])


def test_what_was_cut_stays_cut_while_the_rest_is_trained():
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(64) % 4, tuple("abcd"))
    model = create("wrn-10-1", 4)
    outcome = DEFENSES.create("fine-pruning:ratio=0.25,lr=0.1,epochs=3,batch=16,rho=0.5")(model, images, RUN)
    gone = (outcome.model.fc.weight == 0).all(0)
    assert int(gone.sum()) == 16
    assert not torch.equal(outcome.model.fc.weight[:, ~gone], model.fc.weight[:, ~gone])
    assert not outcome.model.fc.weight._backward_hooks


def test_a_larger_allowance_never_prunes_less():
    """Quarter k of the image is bright in class k, and channel k sees it, so each cut costs one class."""

    class Quarters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look = nn.Conv2d(3, 4, 8, bias=False)
            self.fc = nn.Linear(4, 4)
            with torch.no_grad():
                self.look.weight.zero_()
                self.fc.weight.copy_(torch.eye(4) * 10)
                self.fc.bias.copy_(torch.tensor([0, 0, 0, 0.01]))  # an image that nothing sees is of the last class
                for k in range(4):
                    rows, columns = slice(4 * (k // 2), 4 * (k // 2) + 4), slice(4 * (k % 2), 4 * (k % 2) + 4)
                    self.look.weight[k, :, rows, columns] = (k + 1) / 480
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.pool(self.look(x)).flatten(1))

    pixels = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    for i, k in enumerate(labels.tolist()):
        pixels[i, :, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] = 255 - i // 4  # no two are copies
    images, model = ImageSet(pixels, labels, tuple("abcd")), Quarters()
    ratios = [
        DEFENSES.create(f"fine-pruning:tune=false,folds=1,max_drop={drop}")(model, images, RUN).method.ratio
        for drop in (0.0, 0.3, 0.6, 0.9)
    ]
    assert ratios == [0.0, 0.25, 0.5, 0.75]


def test_ratios_that_leave_nothing_are_refused():
    for ratio in (1, 1.5, -0.1):
        with pytest.raises(NadError, match=r"expected ratio in \[0, 1\), got .*; 1 would prune every channel"):
            DEFENSES.create(f"fine-pruning:ratio={ratio}")
    with pytest.raises(NadError, match=r"ratio=0.9 prunes every one of 4 channels; choose a lower one"):
        DEFENSES.create("fine-pruning:ratio=0.9,tune=false")(Means(), white(), RUN)
    with pytest.raises(NadError, match=r"expected accuracy in \[0, 1\], got 81"):
        DEFENSES.create("fine-pruning:accuracy=81")
