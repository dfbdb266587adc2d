"""Crop, flip and cutout as one gather over a batch, from random numbers drawn for a whole epoch.

The source of an image (which pixel goes where) and what is blacked out are decided first, so a batch is read
from the data set and augmented in a single indexing operation, on whatever device the data is.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from nad.errors import NadError, printable


@dataclass(frozen=True)
class Draws:
    """The random decisions for n images; entries are None where a step is off. All int64 (n,) except `flip`, bool."""

    dy: Tensor | None = None
    dx: Tensor | None = None
    flip: Tensor | None = None
    hole_y: Tensor | None = None
    hole_x: Tensor | None = None

    def at(self, part: slice) -> "Draws":
        return Draws(*(None if t is None else t[part] for t in self._fields()))

    def to(self, device: torch.device) -> "Draws":
        return Draws(*(None if t is None else t.to(device, non_blocking=True) for t in self._fields()))

    def _fields(self) -> tuple[Tensor | None, ...]:
        return self.dy, self.dx, self.flip, self.hole_y, self.hole_x


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a batch, from a list such as `crop/flip/cutout9`.

    Args:
        crop: pad with black by an eighth of the size on each side and crop back at a uniform offset.
        flip: mirror left and right, each image with probability one half.
        cutout: side of a black square around a uniform centre, clipped at the borders; 0 for none.
    """

    crop: bool = False
    flip: bool = False
    cutout: int = 0

    @classmethod
    def parse(cls, names: tuple[str, ...]) -> "Augmentation":
        """From names: crop, flip, cutoutN (N the side in pixels)."""
        steps: dict[str, int] = {}
        for name in names:
            match = re.fullmatch(r"(crop|flip)|cutout(\d+)", name)
            if not match:
                raise NadError(f"unknown augmentation {printable(name)!r}; expected crop, flip, cutoutN or none")
            steps[match[1] or "cutout"] = int(match[2] or 1)
        return cls(crop="crop" in steps, flip="flip" in steps, cutout=steps.get("cutout", 0))

    def __bool__(self) -> bool:
        return self.crop or self.flip or self.cutout > 0

    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        """The decisions for `n` images of `size` (height, width); the same from the same generator on any device."""
        high, wide = size

        def uniform(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (n,), generator=generator)

        return Draws(
            dy=uniform(-(high // 8), high // 8 + 1) if self.crop else None,
            dx=uniform(-(wide // 8), wide // 8 + 1) if self.crop else None,
            flip=uniform(0, 2).bool() if self.flip else None,
            hole_y=uniform(0, high) if self.cutout else None,
            hole_x=uniform(0, wide) if self.cutout else None,
        )

    def gather(self, pixels: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """Images `rows` of `pixels`, augmented by `draws`.

        Args:
            pixels: uint8 (N, C, H, W); fastest when its memory is laid out as (N, H, W, C).
            rows: int64 (B,).

        Returns:
            uint8 (B, C, H, W) in channels-last memory.
        """
        if not self:
            return pixels[rows].contiguous(memory_format=torch.channels_last)
        high, wide = pixels.shape[2:]
        y = torch.arange(high, device=pixels.device).expand(len(rows), high)
        x = torch.arange(wide, device=pixels.device).expand(len(rows), wide)
        if draws.flip is not None:
            x = torch.where(draws.flip[:, None], wide - 1 - x, x)
        seen_y, seen_x = torch.ones_like(y, dtype=torch.bool), torch.ones_like(x, dtype=torch.bool)
        if draws.dy is not None and draws.dx is not None:
            y, x = y + draws.dy[:, None], x + draws.dx[:, None]
            seen_y, seen_x = (y >= 0) & (y < high), (x >= 0) & (x < wide)
            y, x = y.clamp(0, high - 1), x.clamp(0, wide - 1)
        index = (rows[:, None, None] * high + y[:, :, None]) * wide + x[:, None, :]
        table = pixels.permute(0, 2, 3, 1).reshape(-1, pixels.shape[1])
        out = table.index_select(0, index.flatten()).view(len(rows), high, wide, -1)
        seen = seen_y[:, :, None] & seen_x[:, None, :]
        if draws.hole_y is not None and draws.hole_x is not None:
            hole_y = self._inside(draws.hole_y, high, pixels.device)
            hole_x = self._inside(draws.hole_x, wide, pixels.device)
            seen = seen & ~(hole_y[:, :, None] & hole_x[:, None, :])
        return (out * seen[..., None]).permute(0, 3, 1, 2)

    def _inside(self, centre: Tensor, length: int, device: torch.device) -> Tensor:
        """Which of `length` positions lie in the hole around `centre`: bool (B, length)."""
        start = centre[:, None] - self.cutout // 2
        at = torch.arange(length, device=device)
        return (at >= start) & (at < start + self.cutout)
