"""Purify a network of your own, in memory, with your own clean images.

python examples/own_model.py
"""

import torch
from torch import nn

import nad
from nad.data.synthetic import CLASSES, signs


class Small(nn.Module):
    """Any module from (N, 3, H, W) pixels in [0, 1] to (N, classes) logits; its stages are found by probing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.stage3 = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU())
        self.head = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stage3(self.stage2(self.stage1(x))).mean((2, 3)))


def main(count: int = 480) -> nad.Outcome:
    model = Small(len(CLASSES))  # stands for the network that you do not trust
    rendered = signs("train", count)
    images = nad.ImageSet(rendered.pixels, rendered.labels, CLASSES)  # uint8 (N, 3, H, W) and int64 (N,)
    outcome = nad.purify(model, images, "nad:teacher=(finetune:lr=0.05),lr=0.01,beta=1/5/20,epochs=2")
    print("compared at:", ", ".join(outcome.notes["stages"]))
    print("distance to the teacher at the deepest stage:", [round(row["d_3"], 3) for row in outcome.history])
    return outcome


if __name__ == "__main__":
    main()
