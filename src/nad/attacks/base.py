"""What every attack is: a pure function on pixels, and how it poisons a training set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from nad.data.images import ImageSet, Pixels
from nad.errors import NadError
from nad.registry import Method, Registry, internal, option
from nad.runtime import Run

ATTACKS: "Registry[Attack]" = Registry("attack")
Phase = Literal["train", "test"]
Shape = tuple[torch.dtype, tuple[int | None, ...]]  # None: any length of at least 1


@dataclass(frozen=True, kw_only=True)
class Attack(Method):
    """Base of the attacks. A method writes `apply`; relabelling, drawing and counting are here.

    An attack that is fitted to images also writes `fitted`; what it finds is in `tensors`, which a card keeps in
    `trigger.safetensors` beside the network, so that the exact trigger can be rebuilt.
    """

    registry: ClassVar = ATTACKS
    fits: ClassVar[bool] = False  # whether `tensors` must be filled by `fit` before `apply`
    shapes: ClassVar[Mapping[str, Shape]] = {}  # what `tensors` holds, where it is always the same

    target: int = option(0, "class that the backdoor answers (all_to_one)")
    rate: float = option(0.1, "fraction of the images named by rate_of that is poisoned")
    rate_of: Literal["all", "target_class", "non_target"] = option(
        "all", "what rate is a fraction of; target_class and non_target also draw from there"
    )
    labels: Literal["all_to_one", "all_to_all", "clean"] = option(
        "all_to_one", "all_to_all answers the true class plus one; clean poisons the target class and changes no label"
    )
    tensors: Mapping[str, Tensor] = internal(dict)

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise NadError(f"{self.spec_name}: expected rate in (0, 1], got {self.rate:g}")
        if self.target < 0:
            raise NadError(f"{self.spec_name}: expected target >= 0, got {self.target}")
        if self.labels == "clean" and self.rate_of == "non_target":
            raise NadError(f"{self.spec_name}: labels=clean poisons the target class alone; use rate_of=target_class")
        if self.labels == "all_to_one" and self.rate_of == "target_class":
            raise NadError(
                f"{self.spec_name}: labels=all_to_one changes no label of the target class; use labels=clean "
                "or rate_of=all"
            )
        if self.labels == "all_to_all" and self.rate_of != "all":
            raise NadError(f"{self.spec_name}: labels=all_to_all has no target class; use rate_of=all")
        for name, (dtype, lengths) in self.shapes.items() if self.tensors else ():  # the tensors may be a stranger's
            tensor = self.tensors.get(name)
            fits = tensor is not None and tensor.dtype == dtype and tensor.ndim == len(lengths)
            if tensor is None or not fits or any(n != m if m else n < 1 for n, m in zip(tensor.shape, lengths)):
                got = "none" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
                expected = ", ".join(str(m or "any") for m in lengths)
                raise NadError(f"{self.spec_name}: expected {name} to be {dtype} ({expected}), got {got}")
            if not bool(tensor.isfinite().all()):
                raise NadError(f"{self.spec_name}: expected {name} to hold numbers, got NaN or infinity")

    def fit(self, images: ImageSet, run: Run) -> Self:
        """This attack with its trigger fitted to clean training images; itself where nothing is fitted or all is.

        Args:
            images: the training set that will be poisoned.
            run: seed, device, precision and progress of what is trained on the way.
        """
        if not self.fits or self.tensors:
            return self
        self.drawn(images.labels, len(images.classes), run)  # refuses what cannot be drawn before minutes are spent
        return replace(self, tensors=self.fitted(images, run))

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        """What the trigger is made of: CPU tensors by name."""
        raise NotImplementedError

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
        return torch.full_like(labels, self.target) if self.single_target is not None else (labels + 1) % classes

    def evaluated(self, labels: Tensor) -> Tensor:
        """Which test images success is measured on, bool: all for all_to_all, else those of the other classes."""
        return torch.ones_like(labels, dtype=torch.bool) if self.single_target is None else labels != self.target

    @property
    def single_target(self) -> int | None:
        """The target class where there is one."""
        return None if self.labels == "all_to_all" else self.target

    def check(self, classes: int) -> None:
        """Refuse a target that the data does not have."""
        if self.single_target is not None and self.target >= classes:
            raise NadError(f"{self.spec_name}: expected target in 0..{classes - 1}, got {self.target}")

    def poison(self, images: ImageSet, run: Run) -> ImageSet:
        """The training set with some images triggered and (but for labels=clean) relabelled; its mask says which.

        The images are drawn once, from the run's generator `poison`. An attack that is not fitted yet is fitted.
        """
        attack = self.fit(images, run)
        if attack is not self:
            return attack.poison(images, run)
        if images.poisoned is not None and bool(images.poisoned.any()):
            raise NadError(f"{images.name} is poisoned already; expected clean images")
        chosen = self.drawn(images.labels, len(images.classes), run)
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

    def drawn(self, labels: Tensor, classes: int, run: Run) -> Tensor:
        """The positions of the images to poison, int64, ascending.

        `rate` is a fraction of all images, of the target class or of the others. Drawn from is the same group, but
        for labels=clean always the target class. rate_of=all draws among all classes, as the reference does.
        """
        self.check(classes)
        group = {
            "all": torch.ones_like(labels, dtype=torch.bool),
            "target_class": labels == self.target,
            "non_target": labels != self.target,
        }
        counted = group[self.rate_of]
        pool = (group["target_class"] if self.labels == "clean" else counted).nonzero().flatten()
        count = round(self.rate * int(counted.sum()))
        if count == 0:
            raise NadError(f"{self.spec_name}: rate {self.rate:g} of {int(counted.sum())} images is none; raise rate")
        if count > len(pool):
            raise NadError(
                f"{self.spec_name}: rate {self.rate:g} of {self.rate_of} asks for {count} images and class "
                f"{self.target} has {len(pool)}; lower rate or use rate_of=target_class"
            )
        return pool[torch.randperm(len(pool), generator=run.generator("poison"))[:count]].sort().values

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
