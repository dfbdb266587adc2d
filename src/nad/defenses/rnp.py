"""RNP: unlearning the clean images, and pruning the channels that relearning them does without."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES
from nad.defenses.masking import Masked, Masks, scaled
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.training import Recipe, fit

LARGEST = 20.0  # loss of an image beyond which unlearning only overflows


@DEFENSES.register("rnp")
@dataclass(frozen=True, kw_only=True)
class RNP(Masked):
    """Raise the loss on the clean images until they are forgotten, then learn the masks that bring them back.

    What brings clean images back needs the channels of clean features alone; the others are pruned from the given
    network.

    Source: Li et al., "Reconstructive Neuron Pruning for Backdoor Defense", ICML 2023, Section 3: SGD at 0.01 with
    momentum 0.9 and weight decay 5e-4 until the accuracy is at most 0.2, 20 epochs at most; masks by SGD at 0.2 with
    momentum 0.9 over 20 epochs on 0.2 * loss. Deviations: how many channels are pruned is chosen on held-out clean
    images; 500 images are unlearned at most, and the loss of each counts up to 20.
    """

    version = 3

    unlearn_lr: float = option(0.01, "learning rate of the unlearning")
    unlearn_images: int = option(500, "images that are unlearned, at most; with more, a pass forgets too much")
    unlearn_epochs: int = option(20, "passes over them that unlearning may take")
    forgotten: float = option(0.2, "accuracy on the clean images at which unlearning ends")
    epochs: int = option(20, "passes over the clean images that the masks are learned in")
    alpha: float = option(0.2, "weight of the loss that the masks are learned with")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.unlearn_epochs, self.unlearn_images) < 1 or not 0 <= self.forgotten < 1:
            raise NadError(
                f"rnp: expected epochs, unlearn_epochs and unlearn_images >= 1 and forgotten in [0, 1), got "
                f"{self.epochs}, {self.unlearn_epochs}, {self.unlearn_images} and {self.forgotten:g}"
            )
        self.unlearning()

    def unlearning(self) -> Recipe:
        """How the clean images are forgotten."""
        return Recipe(
            epochs=self.unlearn_epochs,
            lr=self.unlearn_lr,
            schedule="constant",
            batch=self.batch,
            augment=self.augmentation,
            nesterov=False,
            weight_decay=5e-4,
        )

    def masks(self, model: nn.Module, images: ImageSet, run: Run) -> Masks:
        def rise(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            answers = net(x).float()
            loss = -F.cross_entropy(answers, y, reduction="none").clamp(max=LARGEST).mean()
            return {"loss": loss, "right": (answers.argmax(1) == y).float().mean()}

        def forgotten(epoch: int, net: nn.Module, record: dict[str, Any]) -> bool:
            return bool(record["right"] <= self.forgotten)  # in train mode, as the masks are learned

        few = images.subset(torch.randperm(len(images), generator=run.generator("unlearned"))[: self.unlearn_images])
        fit(model, few, self.unlearning(), run, rise, forgotten, "unlearning")
        model.requires_grad_(False)
        steps = self.epochs * max(1, round(len(images) / self.batch))

        def loss(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
            return self.alpha * F.cross_entropy(scaled(model, masks, x), y)

        return self.learned(model, images, run, steps, loss)
