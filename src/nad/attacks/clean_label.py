"""CL: images of the target class made hard to recognise, so that the patch on them is what a network learns."""

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from nad.attacks.base import ATTACKS, Phase
from nad.attacks.surrogates import Computed, packed, unpacked
from nad.attacks.triggers import enlarged, grid, grown, stamp
from nad.data.images import ImageSet, Pixels
from nad.errors import NadError
from nad.inversion import Ascent, pgd
from nad.registry import internal, option
from nad.runtime import Run

CHUNK = 64  # every chunk is filled up to it, since a kernel may round differently at another batch size


@dataclass(frozen=True, eq=False)
class Overlaid:
    """Pixels that are decoded on demand, but for images that were perturbed once and for all."""

    base: Pixels
    rows: Tensor  # int64 (N,): where an image is in `changed`, -1 for nowhere
    changed: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.base.shape)

    def __getitem__(self, indices: Tensor) -> Tensor:
        pixels, rows = self.base[indices].clone(), self.rows[indices]
        pixels[rows >= 0] = self.changed[rows[rows >= 0]]
        return pixels


@ATTACKS.register("cl")
@dataclass(frozen=True, kw_only=True)
class CleanLabel(Computed):
    """Perturb images of the target class against a robust network, add a small grid to them and keep their labels.

    Source: Turner et al., "Label-Consistent Backdoor Attacks", 2019; eps, grid and rate as in the NAD paper (Section
    4.1, Appendix A), whose 0.08 of all images is 0.8 of one class in ten. Test images get the grid alone. The
    surrogate's weights are kept with the trigger, so that the training images can be made again.

    Deviations: the surrogate is made by fast adversarial training at 8/255 (Turner: PGD); the ascent starts at the
    image itself, so it draws nothing; the grid's dark cells are 0 at full amplitude, as released (the paper: 128).
    """

    robust: ClassVar[float] = 8 / 255

    labels: Literal["all_to_one", "all_to_all", "clean"] = option("clean", "clean alone: no label is changed")
    rate: float = option(0.8, "fraction of the images named by rate_of that is poisoned")
    rate_of: Literal["all", "target_class", "non_target"] = option("target_class", "what rate is a fraction of")
    eps: float = option(0.15, "the most that the perturbation changes a value in [0, 1]")
    steps: int = option(100, "of the perturbation's ascent")
    step: float = option(0.006, "size of a step, in [0, 1] (about 1.5/255)")
    precision: Literal["fp32", "bf16"] = option("fp32", "of the ascent; bf16 gives another perturbation, faster")
    position: Literal["bottom-right", "corners"] = option(
        "bottom-right", "where the grid is; corners outlive mirroring"
    )
    size: int = option(3, "side of the grid in pixels")
    scale: bool = option(False, "grow the grid with the image; size is meant for 32 pixels")
    amplitude: float = option(1.0, "of the grid in training, in (0, 1]: bright cells rise and dark ones fall by it")
    test_amplitude: float = option(1.0, "of the grid at test time")
    run: Run = internal(Run)  # where the ascent runs and who hears of it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels != "clean":
            raise NadError(f"cl: expected labels=clean, got {self.labels}; the attack perturbs the target class alone")
        if self.size < 1 or not (0 < self.amplitude <= 1 and 0 < self.test_amplitude <= 1):
            raise NadError(
                f"cl: expected size >= 1 and amplitudes in (0, 1], got {self.size}, {self.amplitude:g} and "
                f"{self.test_amplitude:g}"
            )
        self.ascent()

    def ascent(self) -> Ascent:
        """The steps of the perturbation."""
        return Ascent(eps=self.eps, step=self.step, steps=self.steps)

    def fit(self, images: ImageSet, run: Run) -> Self:
        return self if self.tensors else replace(super().fit(images, run), run=run)

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        self.marked(images.pixels[torch.arange(1)], self.amplitude)  # refuses a grid that is too large for the images
        return packed(self.network_for(images, run), len(images.classes))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"run": Run()}  # a loader's processes cannot take a progress bar along

    def planted(self, pixels: Tensor | Pixels, mask: Tensor, phase: Phase) -> Tensor | Pixels:
        if phase == "test" or isinstance(pixels, Tensor):
            return super().planted(pixels, mask, phase)
        chosen = mask.nonzero().flatten()
        rows = torch.full((len(mask),), -1).index_put((chosen,), torch.arange(len(chosen)))
        return Overlaid(pixels, rows, self.apply(pixels[chosen], chosen, phase))

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        if phase == "train":
            return self.marked(self.perturbed(pixels), self.amplitude)
        return self.marked(pixels, self.test_amplitude)

    def perturbed(self, pixels: Tensor) -> Tensor:
        """Images of the target class, moved away from it as far as the surrogate sees."""
        if not self.tensors:
            raise NadError("cl was not fitted; call fit(images, run), or load it with its trigger.safetensors")
        device = self.run.torch_device
        model = unpacked(self.tensors, self.network).to(device)
        half = (
            torch.autocast(device.type, dtype=torch.bfloat16) if self.precision == "bf16" else contextlib.nullcontext()
        )
        most = math.floor(self.eps * 255 + 1e-6)  # rounding to uint8 must not leave the ball
        label = torch.full((CHUNK,), self.target, device=device)
        done = []
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK].to(device)
            filled = F.pad(part, (0, 0, 0, 0, 0, 0, 0, CHUNK - len(part)))
            x = filled.float().div(255).contiguous(memory_format=torch.channels_last)
            with half:
                found = pgd(model, x, label, self.ascent())[: len(part)]
            change = ((found - x[: len(part)]) * 255).round().clamp(-most, most)
            done.append((part + change).byte().to(pixels.device))
            self.run.progress("perturbation", min(start + CHUNK, len(pixels)), len(pixels), "")
        return torch.cat(done).contiguous()

    def marked(self, pixels: Tensor, amplitude: float) -> Tensor:
        """The images with the grid."""
        size = grown(self.size, pixels) if self.scale else self.size
        blank = torch.zeros(1, 1, *pixels.shape[2:], dtype=torch.uint8)
        cells = stamp(blank, enlarged(grid(1), size, pixels), self.position).to(
            pixels.device
        )  # 0 outside, 1 dark, 255 bright
        change = round(amplitude * 255) * ((cells == 255).short() - (cells == 1).short())
        return (pixels.short() + change).clamp(0, 255).byte()
