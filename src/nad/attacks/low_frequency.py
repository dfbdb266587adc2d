"""LF: a smooth universal perturbation, which leaves no trace in the high frequencies."""

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from nad.attacks.base import ATTACKS, Phase
from nad.attacks.surrogates import Computed
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.registry import option
from nad.runtime import Run
from nad.seeding import generator

BATCH = 64


@ATTACKS.register("lf")
@dataclass(frozen=True, kw_only=True)
class LowFrequency(Computed):
    """Add one smooth pattern, under which a clean network already sees the target class, and relabel.

    Source: Zeng et al., "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective", ICCV 2021 (Section 5).
    The pattern is the low-pass filtered form of what is optimised, so no step leaves the low frequencies.

    Deviations: steps along the sign of the mean gradient over random batches, where the paper takes smallest
    perturbations image by image; a Gaussian filter; and the change of a value is bounded by `eps`.
    """

    eps: float = option(0.06, "the most that the pattern changes a value in [0, 1] (the power of a SIG of 20)")
    blur: float = option(1.5, "standard deviation of the low-pass filter in pixels at 32, in proportion at other sizes")
    steps: int = option(200, "of the pattern's optimisation")

    shapes = MappingProxyType({"pattern": (torch.float32, (3, None, None))})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps <= 1 or not 0 < self.blur <= 16 or self.steps < 1:
            raise NadError(
                f"lf: expected eps in (0, 1], blur in (0, 16] and steps >= 1, got {self.eps:g}, {self.blur:g} "
                f"and {self.steps}"
            )

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        model, device, draws = self.network_for(images, run), run.torch_device, generator(self.seed, "lf")
        others = (images.labels.cpu() != self.target).nonzero().flatten()
        if len(others) == 0:
            raise NadError(f"lf: expected images of other classes than {self.target}, got none")
        sigma = self.blur * min(images.size) / 32
        free = torch.zeros(1, 3, *images.size, device=device)
        with evaluating(model), torch.enable_grad():
            for step in range(self.steps):
                rows = others[torch.randint(0, len(others), (BATCH,), generator=draws)]
                x = images.pixels[rows].to(device).float() / 255
                free.requires_grad_()
                shown = (x + smooth(free, sigma)).clamp(0, 1)
                loss = F.cross_entropy(model(shown).float(), torch.full((BATCH,), self.target, device=device))
                (slope,) = torch.autograd.grad(loss, free)
                size = self.eps / 10 * (1 - step / self.steps)
                # averages of values within the bound are within the bound
                free = (free.detach() - size * slope.sign()).clamp(-self.eps, self.eps)
                if step % 20 == 0:
                    run.progress("trigger", step, self.steps, f"loss {loss.item():.3f}")
            pattern = smooth(free.detach(), sigma)[0] * 255
        run.progress("trigger", self.steps, self.steps, "")
        return {"pattern": pattern.cpu()}

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        if "pattern" not in self.tensors:
            raise NadError("lf was not fitted; call fit(images, run), or load it with its trigger.safetensors")
        pattern = self.tensors["pattern"].to(pixels.device)[None]
        if pattern.shape[2:] != pixels.shape[2:]:
            pattern = F.interpolate(pattern, size=tuple(pixels.shape[2:]), mode="bilinear", antialias=True)
        return (pixels.float() + pattern).round().clamp(0, 255).byte()


def smooth(pattern: Tensor, sigma: float) -> Tensor:
    """A pattern (B, C, H, W) after a Gaussian filter of `sigma` pixels; beyond the edges it goes on as it ends."""
    reach = max(1, round(3 * sigma))
    at = torch.arange(-reach, reach + 1, device=pattern.device)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    kernel, channels = weights / weights.sum(), pattern.shape[1]
    padded = F.pad(pattern, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
