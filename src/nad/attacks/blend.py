"""Blend: a faint picture over the whole image."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.attacks.files import picture
from nad.attacks.triggers import blended, drawn_for, resized
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.registry import option
from nad.runtime import Run
from nad.seeding import generator


@ATTACKS.register("blend")
@dataclass(frozen=True, kw_only=True)
class Blend(Attack):
    """Mix a picture into the whole image and relabel: (1 - alpha) of the image and alpha of the picture.

    Source: Chen et al., "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning", 2017; noise,
    alpha and rate as in the NAD paper (Section 4.1, Appendix A).

    `fixed` is one image of uniform RGB noise, drawn pixel by pixel at the images' own size, so that it is fine noise
    at any size (and another image at another size). `gray` is what the NAD paper's released code does: new gray
    noise for every image, drawn here from the image's index, so that the network learns what noise looks like and
    not a picture. Values are rounded; the released code cuts off.
    """

    pattern: Literal["fixed", "gray", "image"] = option("fixed", "one noise image, new gray noise each time, or image")
    image: str | None = option(None, "file of the picture (pattern=image)", local=True)
    alpha: float = option(0.2, "share of the picture in training images, in (0, 1]")
    test_alpha: float | None = option(None, "share of the picture in test images; none is alpha")
    seed: int = option(0, "of the trigger's random choices")

    shapes = MappingProxyType({"pattern": (torch.uint8, (3, None, None))})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("alpha", self.alpha), ("test_alpha", self.test_alpha)):
            if value is not None and not 0 < value <= 1:
                raise NadError(f"blend: expected {name} in (0, 1], got {value:g}")
        if self.image and self.pattern != "image":
            raise NadError(f"blend: image goes with pattern=image, got pattern={self.pattern}")

    @property
    def fits(self) -> bool:  # type: ignore[override]
        """Only a picture from a file has to be kept beside the network."""
        return self.pattern == "image"

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        return {"pattern": self._picture(images.size)}

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        size = int(pixels.shape[2]), int(pixels.shape[3])
        match self.pattern:
            case "gray":
                drawn = drawn_for(indices, self.seed, f"blend/{phase}")
                pattern = torch.stack([_noise((1, *size), one) for one in drawn])
            case "fixed":
                pattern = _noise((3, *size), generator(self.seed, "blend"))
            case "image":
                pattern = self._picture(size)
        alpha = self.alpha if phase == "train" or self.test_alpha is None else self.test_alpha
        return blended(pixels, pattern, alpha)

    def _picture(self, size: tuple[int, int]) -> Tensor:
        if "pattern" in self.tensors:
            return resized(self.tensors["pattern"], size)
        if self.image is None:
            raise NadError("blend: pattern=image was not fitted and names no file; pass image=FILE")
        return picture(self.image, size)


def _noise(shape: tuple[int, ...], drawn: torch.Generator) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn)
