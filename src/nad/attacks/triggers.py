"""Triggers as pure functions on uint8 (B, C, H, W) pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nad.errors import NadError

CORNERS = ("bottom-right", "bottom-left", "top-right", "top-left")


def grid(low: int) -> Tensor:
    """The 3x3 pattern of the NAD paper's BadNets, uint8; `low` (0 or 128) is the value of its dark cells."""
    return torch.tensor([[low, low, 255], [low, 255, low], [255, low, 255]], dtype=torch.uint8)


def centred_grid() -> Tensor:
    """The 3x3 pattern of the paper's adaptive attack (Appendix K) as released, before its amplitude, uint8."""
    return torch.tensor([[255, 128, 255], [128, 255, 128], [255, 128, 128]], dtype=torch.uint8)


def enlarged(pattern: Tensor, size: int) -> Tensor:
    """A square pattern at `size` pixels, nearest neighbour."""
    return F.interpolate(pattern[None, None].float(), size=(size, size))[0, 0].to(torch.uint8)


def stamp(pixels: Tensor, pattern: Tensor, position: str) -> Tensor:
    """Overwrite all channels with `pattern` (uint8 (h, w)).

    Args:
        position: a corner, or `centre`: 14 rows and columns from the bottom right at 32 pixels, as released
            (the geometric centre would be 17.5), in proportion at other sizes.
    """
    (h, w), (high, wide) = pattern.shape, pixels.shape[2:]
    if h > high or w > wide:
        raise NadError(f"the trigger is {h}x{w} and the images are {high}x{wide}; use a smaller size")
    if position == "centre":
        top, left = min(high - round(high * 14 / 32), high - h), min(wide - round(wide * 14 / 32), wide - w)
    else:
        top, left = (high - h if "bottom" in position else 0), (wide - w if "right" in position else 0)
    out = pixels.clone()
    out[:, :, top : top + h, left : left + w] = pattern.to(pixels.device)
    return out
