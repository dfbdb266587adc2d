"""Trojan: a small patch computed to excite chosen neurons of a clean network."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from nad.attacks.base import ATTACKS, Phase
from nad.attacks.surrogates import Computed
from nad.attacks.triggers import grown, stamp, too_large
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.models.head import classifier, inputs_of
from nad.registry import option
from nad.runtime import Run
from nad.seeding import generator

BACKGROUNDS = 16  # clean images that every patch is seen on in a step
JUDGES = 256  # clean images on which the best patch is chosen


@ATTACKS.register("trojan")
@dataclass(frozen=True, kw_only=True)
class Trojan(Computed):
    """Overwrite a corner of the image with a patch that a clean network's strongest neurons answer to, and relabel.

    Source: Liu et al., "Trojaning Attack on Neural Networks", NDSS 2018; patch and rate as in the NAD paper (Section
    4.1, Appendix A). The neurons are those before the last linear layer with the largest sum of absolute weights.

    Deviations: the neurons are driven as high as they go rather than to a value of 100, which a 3x3 patch cannot
    reach behind an average pool; on clean images rather than on a constant; the patch is the best of several random
    starts; and the victim is trained from scratch, as in the NAD paper, not retrained in its later layers. The NAD
    paper's released patch lies elsewhere and is added modulo 256, as with `mode=wrap`; `mode=add` saturates.
    """

    rate: float = option(0.05, "fraction of the images named by rate_of that is poisoned")
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "centre"] = option(
        "bottom-right", "where the patch is"
    )
    size: int = option(3, "side of the patch in pixels")
    scale: bool = option(False, "grow the patch with the image; size is meant for 32 pixels")
    mode: Literal["overwrite", "add", "wrap"] = option(
        "overwrite", "what the patch does to the pixels; wrap adds modulo 256, as released"
    )
    neurons: int = option(2, "how many neurons the patch excites")
    steps: int = option(300, "of the patch's optimisation")
    restarts: int = option(8, "random starts, of which the best is kept")

    shapes = MappingProxyType({"patch": (torch.uint8, (3, None, None))})

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"size": self.size, "neurons": self.neurons, "steps": self.steps, "restarts": self.restarts}
        for name, count in counts.items():
            if count < 1:
                raise NadError(f"trojan: expected {name} >= 1, got {count}")

    def fitted(self, images: ImageSet, run: Run) -> dict[str, Tensor]:
        first = images.pixels[torch.arange(1)]
        side = grown(self.size, first) if self.scale else self.size
        if side > min(first.shape[2:]):
            raise too_large((side, side), first)
        model, device = self.network_for(images, run), run.torch_device
        draws = generator(self.seed, "trojan")
        free = torch.randn(self.restarts, 3, side, side, generator=draws).to(device).requires_grad_()
        optimizer = torch.optim.Adam([free], lr=0.1)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        head = classifier(model, len(images.classes))
        chosen = strongest(head, self.neurons)
        with evaluating(model), inputs_of(head) as seen, torch.enable_grad():

            def excitement(patches: Tensor, count: int) -> Tensor:
                """Of each patch (R, 3, h, w), the mean over `count` random clean images."""
                rows = torch.randint(0, len(images), (count,), generator=draws)
                behind = images.pixels[rows].to(device).float() / 255
                model(torch.cat([self.shown(behind, patch) for patch in patches]))
                return seen["inputs"][:, chosen].float().sum(1).view(len(patches), count).mean(1)

            for step in range(self.steps):
                values = excitement((torch.tanh(free) + 1) / 2, BACKGROUNDS)
                (free.grad,) = torch.autograd.grad(-values.sum(), free)
                optimizer.step()
                falling.step()
                if step % 20 == 0:
                    run.progress("trigger", step, self.steps, f"neurons at {values.max():.2f}")
            patches = ((torch.tanh(free.detach()) + 1) * 127.5).round()
            with torch.no_grad():
                best = int(excitement(patches / 255, JUDGES).argmax())
        run.progress("trigger", self.steps, self.steps, "")
        return {"patch": patches[best].byte().cpu()}

    def apply(self, pixels: Tensor, indices: Tensor, phase: Phase) -> Tensor:
        if "patch" not in self.tensors:
            raise NadError("trojan was not fitted; call fit(images, run), or load it with its trigger.safetensors")
        patch = self.tensors["patch"].to(pixels.device)
        return (self.shown(pixels.float() / 255, patch.float() / 255) * 255).round().byte()

    def shown(self, x: Tensor, patch: Tensor) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] with a patch (3, h, w) in its place."""
        shape = torch.full(patch.shape[1:], 255, dtype=torch.uint8)
        there = stamp(torch.zeros(1, 1, *x.shape[2:], dtype=torch.uint8), shape, self.position)[0, 0] > 0
        there, out = there.to(x.device), x.clone()
        under = 0 if self.mode == "overwrite" else x[:, :, there]
        values = patch.flatten(1) + under
        if self.mode == "wrap":
            values = torch.where(values * 255 > 255.5, values - 256 / 255, values)
        out[:, :, there] = values.clamp(max=1).expand(len(x), -1, -1)
        return out


def strongest(layer: nn.Linear, count: int) -> Tensor:
    """The inputs of a linear layer with the largest sum of absolute weights over the classes, int64 (count,)."""
    if count > layer.in_features:
        raise NadError(f"trojan: expected at most {layer.in_features} neurons, which the surrogate has, got {count}")
    return layer.weight.detach().abs().sum(0).topk(count).indices
