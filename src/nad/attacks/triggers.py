"""Triggers as pure functions on uint8 (B, C, H, W) pixels."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nad.errors import NadError
from nad.seeding import generator

CORNERS = ("bottom-right", "bottom-left", "top-right", "top-left")


def grid(low: int) -> Tensor:
    """The 3x3 pattern of the NAD paper's BadNets, uint8; `low` (0 or 128) is the value of its dark cells."""
    return torch.tensor([[low, low, 255], [low, 255, low], [255, low, 255]], dtype=torch.uint8)


def centred_grid() -> Tensor:
    """The 3x3 pattern of the paper's adaptive attack (Appendix K) as released, before its amplitude, uint8."""
    return torch.tensor([[255, 128, 255], [128, 255, 128], [255, 128, 128]], dtype=torch.uint8)


def enlarged(pattern: Tensor, size: int, pixels: Tensor) -> Tensor:
    """A square pattern at `size` pixels for images like `pixels`, nearest neighbour."""
    if size > min(pixels.shape[2:]):  # before memory is taken
        raise too_large((size, size), pixels)
    return F.interpolate(pattern[None, None].float(), size=(size, size))[0, 0].to(torch.uint8)


def grown(size: int, pixels: Tensor) -> int:
    """A side that is `size` on images of 32 pixels, in proportion to the shorter side of `pixels`."""
    return max(1, round(size * min(pixels.shape[2:]) / 32))


def drawn_for(indices: Tensor, seed: int, name: str) -> Iterator[torch.Generator]:
    """A generator for each image that depends on its index and not on the batch around it."""
    return (generator(seed, f"{name}/{index}") for index in indices.tolist())


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (C, h, w) at (height, width): bilinear, antialiased; itself where it has that size."""
    if tuple(picture.shape[1:]) == size:
        return picture
    out = F.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=True)
    return out[0].round().clamp(0, 255).byte()


def blended(pixels: Tensor, pattern: Tensor, alpha: float | Tensor) -> Tensor:
    """(1 - alpha) of the pixels and alpha of a pattern that broadcasts to them, rounded, uint8."""
    mixed = (1 - alpha) * pixels.float() + alpha * pattern.to(pixels.device).float()
    return mixed.round().clamp(0, 255).byte()


def stamp(pixels: Tensor, pattern: Tensor, position: str) -> Tensor:
    """Overwrite all channels with `pattern` (uint8 (h, w)).

    Args:
        position: a corner; `corners`, all four, with the pattern mirrored so that it is the bottom right one after
            a flip; or `centre`: 14 rows and columns from the bottom right at 32 pixels, as released (the geometric
            centre would be 17.5), in proportion at other sizes.
    """
    if position == "corners":
        for corner in CORNERS:
            turned = pattern.flip([axis for axis, side in enumerate(("top", "left")) if side in corner])
            pixels = stamp(pixels, turned, corner)
        return pixels
    (h, w), (high, wide) = pattern.shape, pixels.shape[2:]
    if position == "centre":
        top, left = min(high - round(high * 14 / 32), high - h), min(wide - round(wide * 14 / 32), wide - w)
    else:
        top, left = (high - h if "bottom" in position else 0), (wide - w if "right" in position else 0)
    return stamped_at(pixels, pattern, [(top, left)] * len(pixels))


def stamped_at(pixels: Tensor, pattern: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """Overwrite all channels with `pattern` (uint8 (h, w)), in each image at its own (top, left)."""
    (h, w), (high, wide) = pattern.shape, pixels.shape[2:]
    if h > high or w > wide:
        raise too_large((h, w), pixels)
    out, pattern = pixels.clone(), pattern.to(pixels.device)
    if len(set(places)) == 1:
        top, left = places[0]
        out[:, :, top : top + h, left : left + w] = pattern
        return out
    for image, (top, left) in zip(out, places):
        image[:, top : top + h, left : left + w] = pattern
    return out


def too_large(side: tuple[int, int], pixels: Tensor) -> NadError:
    """The error of a trigger of `side` (height, width) on smaller images."""
    (h, w), (high, wide) = side, pixels.shape[2:]
    return NadError(f"the trigger is {h}x{w} and the images are {high}x{wide}; use a smaller size")
