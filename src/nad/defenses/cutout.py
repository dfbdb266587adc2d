"""Fine-tuning with cutout alone."""

from dataclasses import dataclass

from nad.defenses.base import DEFENSES
from nad.defenses.finetune import Finetune
from nad.registry import option


@DEFENSES.register("cutout")
@dataclass(frozen=True, kw_only=True)
class Cutout(Finetune):
    """Fine-tune with a black square on every image and no other augmentation.

    Source: DeVries and Taylor, 2017; one hole of 3x3 pixels as in the NAD paper (Appendix B).
    """

    augment: tuple[str, ...] | None = option(("cutout3",), "list of crop, flip, cutoutN")
