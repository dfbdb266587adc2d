"""WaNet: a smooth warp that is hard to see."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nad.attacks.base import ATTACKS, Attack, Phase
from nad.attacks.triggers import drawn_for
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.registry import internal, option
from nad.runtime import Run
from nad.seeding import generator


@ATTACKS.register("wanet")
@dataclass(frozen=True, kw_only=True)
class WaNet(Attack):
    """Warp the image by a smooth random field and relabel; other images get the same warp with noise and no new label.

    Source: Nguyen & Tran, "WaNet - Imperceptible Warping-based Backdoor Attack", ICLR 2021, Section 3; noise mode as
    in Section 3.4. A field of k x k uniform displacements, divided by their mean size, is upsampled bicubically; its
    unit is s / 2 pixels. The noise images teach the network that only this one warp counts. They are marked as
    poisoned too and keep their labels.

    The paper poisons every batch anew; here poisoned images, noise images and their noise are drawn once, so that
    the poisoned set can be stored and counted. On images that are not square the field is stretched to their shape.
    """

    k: int = option(4, "side of the control field")
    s: float = option(0.5, "strength: mean displacement along each axis, in units of half a pixel")
    grid_rescale: float = option(1.0, "the warped positions are scaled by this, as the paper's code does")
    noise_rate: float | None = option(None, "fraction of images that get a noisy warp, as rate; none is twice rate")
    scale: bool = option(False, "grow the displacement with the image; s is then that at 32 pixels")
    seed: int = option(0, "of the trigger's random choices")
    noisy: bool = internal(bool)  # whether apply gives the noisy warp

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.k <= 256 or not self.s > 0 or not self.grid_rescale > 0:
            raise NadError(
                f"wanet: expected k in 2..256, s and grid_rescale > 0, got {self.k}, {self.s:g} "
                f"and {self.grid_rescale:g}"
            )
        if self.noise_rate is not None and not 0 <= self.noise_rate <= 1:
            raise NadError(f"wanet: expected noise_rate in [0, 1], got {self.noise_rate:g}")

    def poison(self, images: ImageSet, run: Run) -> ImageSet:
        poisoned = super().poison(images, run)
        if poisoned.poisoned is None or self.noise_rate == 0:
            return poisoned
        ratio = 2 if self.noise_rate is None else self.noise_rate / self.rate
        free = ~poisoned.poisoned & ((images.labels == self.target) | (self.labels != "clean"))
        count, rest = round(ratio * int(poisoned.poisoned.sum())), free.nonzero().flatten()
        if count > len(rest):
            raise NadError(f"wanet: {count} noise images asked for and {len(rest)} are left; lower rate or noise_rate")
        mask = torch.zeros_like(poisoned.poisoned)
        mask[rest[torch.randperm(len(rest), generator=run.generator("wanet noise"))[:count]]] = True
        pixels = replace(self, noisy=True).planted(poisoned.pixels, mask, "train")
        return replace(poisoned, pixels=pixels, poisoned=poisoned.poisoned | mask)

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        high, wide = pixels.shape[2:]
        unit = torch.tensor([1 / wide, 1 / high]) * (min(high, wide) / 32 if self.scale else 1)
        positions = (identity(high, wide) + self.s * unit * self.field(high, wide)) * self.grid_rescale
        grids = positions.expand(len(pixels), -1, -1, -1)
        if self.noisy:
            drawn = drawn_for(indices, self.seed, f"wanet/{phase}")
            noise = torch.stack([torch.rand(high, wide, 2, generator=one) * 2 - 1 for one in drawn])
            grids = grids + noise * unit
        grids = grids.clamp(-1, 1).to(pixels.device)
        warped = F.grid_sample(pixels.float(), grids, mode="bilinear", align_corners=True)
        return warped.round().clamp(0, 255).byte()

    def field(self, high: int, wide: int) -> Tensor:
        """The displacements along x and y, of mean size about 1: float (high, wide, 2)."""
        control = torch.rand(1, 2, self.k, self.k, generator=generator(self.seed, "wanet")) * 2 - 1
        control = control / control.abs().mean()
        return F.interpolate(control, size=(high, wide), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)


def identity(high: int, wide: int) -> Tensor:
    """The positions (x, y) at which `grid_sample` reads the image as it is: float (high, wide, 2)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, high), torch.linspace(-1, 1, wide), indexing="ij")
    return torch.stack((x, y), dim=2)
