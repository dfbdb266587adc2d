"""BadNets: a small patch that is the same on every image."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.attacks.triggers import centred_grid, enlarged, grid, stamp
from nad.errors import NadError
from nad.registry import option


@ATTACKS.register("badnets")
@dataclass(frozen=True, kw_only=True)
class BadNets(Attack):
    """Overwrite a corner of the image with a small grid and relabel.

    Source: Gu et al., "BadNets", 2017; pattern and place as in the NAD paper's released code (Section 4.1,
    Appendix A). The paper says the dark cells are "128 or 255"; the code has 0: `low` says which. `amplitude`
    scales the pattern before it overwrites, as in the paper's adaptive attack (Appendix K:
    `pattern=centred,position=centre`).
    """

    low: Literal[0, 128] = option(0, "value of the pattern's dark cells")
    pattern: Literal["grid", "square", "centred"] = option("grid", "the paper's grid, all white, or Appendix K's")
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "centre"] = option(
        "bottom-right", "where the patch is"
    )
    size: int = option(3, "side of the patch in pixels")
    amplitude: float = option(1.0, "the pattern's values are scaled by this, in (0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1 or not 0 < self.amplitude <= 1:
            raise NadError(
                f"badnets: expected size >= 1 and amplitude in (0, 1], got {self.size} and {self.amplitude:g}"
            )

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        shape = {"grid": grid(self.low), "square": grid(255), "centred": centred_grid()}[self.pattern]
        scaled = (enlarged(shape, self.size).float() * self.amplitude).round().byte()
        return stamp(pixels, scaled, self.position)
