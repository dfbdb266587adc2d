"""What every attack is: a pure function on pixels, and how it poisons a training set."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nad.data.images import ImageSet, Pixels
from nad.errors import NadError
from nad.registry import Method, Registry, option
from nad.runtime import Run

ATTACKS: "Registry[Attack]" = Registry("attack")
Phase = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True)
class Attack(Method):
    """Base of the attacks. A method writes `apply`; relabelling, drawing and counting are here."""

    registry: ClassVar = ATTACKS

    target: int = option(0, "class that the backdoor answers (all_to_one)")
    rate: float = option(0.1, "fraction of all training images that is poisoned")
    labels: Literal["all_to_one", "all_to_all"] = option("all_to_one", "all_to_all answers the true class plus one")

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise NadError(f"{self.spec_name}: expected rate in (0, 1], got {self.rate:g}")
        if self.target < 0:
            raise NadError(f"{self.spec_name}: expected target >= 0, got {self.target}")

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        """Plant the trigger.

        Args:
            pixels: uint8 (B, 3, H, W); not changed.
            indices: int64 (B,), the images' positions in their set: all that may make two images differ.
            phase: whether the images will be trained or tested on.

        Returns:
            uint8 (B, 3, H, W).
        """
        raise NotImplementedError

    def answers(self, labels: Tensor, classes: int) -> Tensor:
        """The class that the backdoor gives for images of class `labels`, int64 of the same shape."""
        self.check(classes)
        return (labels + 1) % classes if self.labels == "all_to_all" else torch.full_like(labels, self.target)

    def evaluated(self, labels: Tensor) -> Tensor:
        """Which test images success is measured on, bool: all for all_to_all, else those of the other classes."""
        return torch.ones_like(labels, dtype=torch.bool) if self.single_target is None else labels != self.target

    @property
    def single_target(self) -> int | None:
        """The target class where there is one."""
        return self.target if self.labels == "all_to_one" else None

    def check(self, classes: int) -> None:
        """Refuse a target that the data does not have."""
        if self.single_target is not None and self.target >= classes:
            raise NadError(f"{self.spec_name}: expected target in 0..{classes - 1}, got {self.target}")

    def poison(self, images: ImageSet, run: Run) -> ImageSet:
        """The training set with `rate` of all its images triggered and relabelled; its mask says which.

        The images are drawn once, from the run's generator `poison`, among all classes as the reference does.
        """
        if images.poisoned is not None and bool(images.poisoned.any()):
            raise NadError(f"{images.name} is poisoned already; expected clean images")
        count = round(self.rate * len(images))
        if count == 0:
            raise NadError(f"{self.spec_name}: rate {self.rate:g} of {len(images)} images is none; raise rate")
        chosen = torch.randperm(len(images), generator=run.generator("poison"))[:count].sort().values
        labels = images.labels.clone()
        labels[chosen] = self.answers(labels[chosen], len(images.classes))
        mask = torch.zeros(len(images), dtype=torch.bool)
        mask[chosen] = True
        return replace(
            images,
            pixels=self.planted(images.pixels, mask, "train"),
            labels=labels,
            poisoned=mask,
            original_labels=images.labels,
        )

    def planted(self, pixels: Tensor | Pixels, mask: Tensor, phase: Phase) -> Tensor | Pixels:
        """`pixels` with the trigger where `mask`; on demand for pixels that are decoded on demand."""
        lazy = Planted(pixels, self, mask, phase)
        return lazy[torch.arange(len(mask))] if isinstance(pixels, Tensor) else lazy

    def triggered(self, test: ImageSet) -> ImageSet:
        """The test images that success is measured on, triggered, with their true labels."""
        self.check(len(test.classes))
        indices = self.evaluated(test.labels).nonzero().flatten()
        if len(indices) == 0:
            raise NadError(
                f"{self.spec_name}: every test image is of the target class {self.target}; nothing to measure"
            )
        mask = torch.ones(len(test), dtype=torch.bool)
        return replace(test, pixels=self.planted(test.pixels, mask, "test")).subset(indices)


@dataclass(frozen=True, eq=False)
class Planted:
    """Pixels with a trigger where `mask`, planted when they are asked for."""

    base: Tensor | Pixels
    attack: Attack
    mask: Tensor
    phase: Phase

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.base.shape)

    def __getitem__(self, indices: Tensor) -> Tensor:
        pixels = self.base[indices].clone()
        here = self.mask[indices]
        if bool(here.any()):
            pixels[here] = self.attack.apply(pixels[here], indices[here], self.phase)
        return pixels
