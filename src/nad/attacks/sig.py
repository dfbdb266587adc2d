"""SIG: a faint sinusoid over the whole image, with labels that stay true."""

from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.errors import NadError
from nad.registry import option

_STEP = 0.8  # radians a pixel of the released mask, 32 pixels wide


@ATTACKS.register("sig")
@dataclass(frozen=True, kw_only=True)
class Sig(Attack):
    """Add vertical stripes to images of the target class and leave their labels.

    Source: Barni et al., "A New Backdoor Attack in CNNs by Training Set Corruption without Label Poisoning", ICIP
    2019; delta and f as in the NAD paper (Section 4.1, Appendix A). Column j of W gets
    delta * sin(2 pi j f / W), rounded and clipped. The paper's rate of 0.08 is read as 0.8 of the target class,
    as for the clean-label attack.

    `variant=released` is what the NAD paper's released files do: 0.8 of the image and 0.2 of a mask whose negative
    half has wrapped around in 8 bits (-1 became 255), of 0.8 radians a pixel instead of f; images are cut to whole
    numbers. The mask is 32 pixels wide; at other widths its waves are stretched to as many as on 32 pixels.
    """

    labels: Literal["all_to_one", "all_to_all", "clean"] = option("clean", "clean changes no label")
    rate_of: Literal["all", "target_class", "non_target"] = option("target_class", "what rate is a fraction of")
    rate: float = option(0.8, "fraction of the images named by rate_of that is poisoned")
    delta: float = option(20.0, "amplitude of the stripes in training images, in 0..255 values")
    test_delta: float | None = option(None, "amplitude in test images; none is delta")
    f: float = option(6.0, "waves across the image (variant=paper)")
    variant: Literal["paper", "released"] = option("paper", "added stripes, or the released code's wrapped mask")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("delta", self.delta), ("test_delta", self.test_delta), ("f", self.f)):
            if value is not None and not value > 0:
                raise NadError(f"sig: expected {name} > 0, got {value:g}")

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        delta = self.delta if phase == "train" or self.test_delta is None else self.test_delta
        columns = torch.arange(pixels.shape[3], dtype=torch.float64)
        if self.variant == "released":
            mask = wrapped(delta * torch.sin(_STEP * 32 / len(columns) * columns)).to(pixels.device)
            return ((4 * pixels.int() + mask) // 5).byte()  # whole numbers, since 0.8 * 255 is not exact
        stripes = delta * torch.sin(2 * pi * self.f / len(columns) * columns)
        return (pixels + stripes.to(pixels.device, torch.float32)).round().clamp(0, 255).byte()


def wrapped(values: Tensor) -> Tensor:
    """Values cut towards zero and taken modulo 256, as a cast to 8 bits does, int32."""
    return values.trunc().int().remainder(256)
