"""A trigger of your own: a picture, a picture with a mask, or a function."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.attacks.files import picture
from nad.attacks.triggers import blended, resized
from nad.data.images import ImageSet
from nad.errors import NadError, printable
from nad.models.create import function_in
from nad.registry import internal, option
from nad.runtime import Run

Function = Callable[[Tensor], Tensor]


@ATTACKS.register("custom")
@dataclass(frozen=True, kw_only=True)
class Custom(Attack):
    """Plant a trigger of the user's own and relabel.

    Three forms: `image=FILE` mixes a picture into the whole image by `alpha`; with `mask=FILE` only where the mask
    is, by its gray value (255 is all of `alpha`); `function=FILE.py:NAME`, or in Python `Custom(call=f)`, gives
    uint8 (B, 3, H, W) to a function that returns the same, and whose result for an image may depend on that image
    alone. Pictures are resized to the images.

    A network's card keeps picture and mask, so that the trigger can be rebuilt; a function it cannot keep.

    Source: none; this is for triggers that nobody has published.
    """

    image: str | None = option(None, "file of the picture", local=True)
    mask: str | None = option(None, "file of the mask: where the picture is, black nowhere and white fully", local=True)
    function: str | None = option(None, "FILE.py:NAME of a function on uint8 (B, 3, H, W)", local=True)
    alpha: float = option(1.0, "share of the picture where it is, in (0, 1]")
    call: Function | None = internal(lambda: None)

    shapes = MappingProxyType({"pattern": (torch.uint8, (3, None, None)), "mask": (torch.uint8, (1, None, None))})

    @property
    def speaks_for_itself(self) -> bool:
        return self.call is None and super().speaks_for_itself

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise NadError(f"custom: expected alpha in (0, 1], got {self.alpha:g}")
        if sum(form is not None for form in (self.image, self.function, self.call)) > 1:
            raise NadError("custom: expected one of image, function and call, got more than one")
        if self.mask and not self.image:
            raise NadError("custom: mask says where a picture is; pass image=FILE too")
        if self.function is not None and not all(self.function.rpartition(":")):
            raise NadError(f"custom: expected function=FILE.py:NAME, got {printable(self.function)!r}")

    @property
    def fits(self) -> bool:  # type: ignore[override]
        """Pictures are kept beside the network; a function cannot be."""
        return self.function is None and self.call is None

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        pattern, opacity = self._trigger(images.size)
        return {"pattern": pattern, "mask": opacity}

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        if not self.fits:
            return self._called(pixels)
        pattern, opacity = self._trigger((int(pixels.shape[2]), int(pixels.shape[3])))
        return blended(pixels, pattern, self.alpha * opacity.to(pixels.device).float() / 255)

    def _trigger(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The picture, uint8 (3, H, W), and its mask, uint8 (1, H, W)."""
        if {"pattern", "mask"} <= set(self.tensors):
            return resized(self.tensors["pattern"], size), resized(self.tensors["mask"], size)
        if self.image is None:
            raise NadError(
                "custom: expected image=FILE or function=FILE.py:NAME, got neither; "
                "a trigger that is a function is not kept in a card, so pass it again"
            )
        if self.mask is None:
            return picture(self.image, size), torch.full((1, *size), 255, dtype=torch.uint8)
        opacity = picture(self.mask, size).float().mean(0, keepdim=True).round().byte()
        if not bool(opacity.any()):
            raise NadError(f"custom: the mask {printable(self.mask)} is black all over; white is where the picture is")
        return picture(self.image, size), opacity

    def _called(self, pixels: Tensor) -> Tensor:
        function = self.call or _loaded(self.function or "")
        try:
            out = function(pixels.clone())
        except Exception as error:  # somebody's code
            raise NadError(f"custom: the function failed: {type(error).__name__}: {printable(error, 90)}") from error
        if not isinstance(out, Tensor) or out.dtype != torch.uint8 or out.shape != pixels.shape:
            got = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise NadError(f"custom: expected the function to return torch.uint8 {tuple(pixels.shape)}, got {got}")
        return out.to(pixels.device)


@lru_cache(maxsize=8)
def _loaded(name: str) -> Function:
    file, _, function = name.rpartition(":")
    return function_in(file, function)
