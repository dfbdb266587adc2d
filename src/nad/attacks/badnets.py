"""BadNets: a small patch that is the same on every image."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.attacks.triggers import centred_grid, drawn_for, enlarged, grid, grown, stamp, stamped_at
from nad.errors import NadError
from nad.registry import option


@ATTACKS.register("badnets")
@dataclass(frozen=True, kw_only=True)
class BadNets(Attack):
    """Overwrite a corner of the image, or another place, with a small grid and relabel.

    Source: Gu et al., "BadNets", 2017; pattern and place as in the NAD paper's released code (Section 4.1,
    Appendix A). The paper says the dark cells are "128 or 255"; the code has 0: `low` says which. `amplitude`
    scales the pattern before it overwrites, as in the paper's adaptive attack (Appendix K:
    `pattern=centred,position=centre`). `position=corners` stamps all four corners at once, each mirrored so that
    the trigger is the same after a flip; `position=random` draws a place for every image from its index.
    """

    low: Literal[0, 128] = option(0, "value of the pattern's dark cells")
    pattern: Literal["grid", "square", "centred"] = option("grid", "the paper's grid, all white, or Appendix K's")
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "centre", "corners", "random"] = option(
        "bottom-right", "where the patch is; corners is all four, random a new place for every image"
    )
    size: int = option(3, "side of the patch in pixels")
    scale: bool = option(False, "grow the patch with the image; size is then its side at 32 pixels")
    amplitude: float = option(1.0, "the pattern's values are scaled by this, in (0, 1]")
    seed: int = option(0, "of the trigger's random choices (position=random)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1 or not 0 < self.amplitude <= 1:
            raise NadError(
                f"badnets: expected size >= 1 and amplitude in (0, 1], got {self.size} and {self.amplitude:g}"
            )

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        shape = {"grid": grid(self.low), "square": grid(255), "centred": centred_grid()}[self.pattern]
        size = grown(self.size, pixels) if self.scale else self.size
        patch = (enlarged(shape, size, pixels).float() * self.amplitude).round().byte()
        if self.position != "random":
            return stamp(pixels, patch, self.position)
        return stamped_at(pixels, patch, self._places(pixels, indices, size, phase))

    def _places(self, pixels: Tensor, indices: Tensor, size: int, phase: Phase) -> list[tuple[int, int]]:
        high, wide = (max(1, length - size + 1) for length in pixels.shape[2:])
        places = []
        for generator in drawn_for(indices, self.seed, f"badnets/{phase}"):
            top, left = (int(torch.randint(n, (), generator=generator)) for n in (high, wide))
            places.append((top, left))
        return places
