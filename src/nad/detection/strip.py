"""STRIP: inputs whose answer stays the same whatever is laid over them."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.detection.base import DETECTORS, Detector, Scores
from nad.errors import NadError
from nad.models.forward import evaluating
from nad.registry import option
from nad.runtime import Run


@DETECTORS.register("strip")
@dataclass(frozen=True, kw_only=True)
class Strip(Detector):
    """Flag inputs whose answers under superimposed clean images have less entropy than nearly all clean images'.

    Source: Gao et al., "STRIP", ACSAC 2019, Section 4: 100 overlays, a false rejection rate of 1 to 5 %. Entropy in
    bits, over the classes. Half of the clean images set the threshold, overlays come from the other half. Pixels are
    added, as in the released code; a mean of both halves a trigger's contrast.
    """

    version = 2
    takes_inputs = True

    overlays: int = option(100, "clean images laid over each input")
    share: float | None = option(None, "of the input in a mean of both; none adds both, clipped at white")
    frr: float = option(0.01, "part of clean images that the threshold flags")

    def __post_init__(self) -> None:
        if self.overlays < 1 or not 0 < self.frr < 1:
            raise NadError(f"strip: expected overlays >= 1 and frr in (0, 1), got {self.overlays} and {self.frr:g}")
        if self.share is not None and not 0 < self.share < 1:
            raise NadError(f"strip: expected share in (0, 1), got {self.share:g}")

    def scores(self, model: nn.Module, images: ImageSet, run: Run, inputs: ImageSet | None) -> Scores:
        assert inputs is not None
        model = copy.deepcopy(model).float().to(run.torch_device)
        order = torch.randperm(len(images), generator=run.generator("strip"))
        over, judged = images.subset(order[: len(order) // 2]), images.subset(order[len(order) // 2 :])
        clean, asked = (self.entropies(model, part, over, run) for part in (judged, inputs))
        threshold = clean.quantile(self.frr).item()
        flagged = asked < threshold
        rows = [
            {"input": i, "entropy": h, "flagged": f} for i, (h, f) in enumerate(zip(asked.tolist(), flagged.tolist()))
        ]
        summary = {
            "threshold": threshold,
            "flagged": int(flagged.sum()),
            "inputs": len(asked),
            "clean_entropy": clean.mean().item(),
            "input_entropy": asked.mean().item(),
        }
        return Scores(summary, rows, of="input")

    def entropies(self, model: nn.Module, images: ImageSet, over: ImageSet, run: Run) -> Tensor:
        """The mean entropy in bits of the answers to each image under overlays drawn for it, fp64 (N,)."""
        device, draws = run.torch_device, run.generator("overlays")
        pixels, done = over.to(device).pixels, []
        with evaluating(model), run.inference():
            for x, _ in in_order(images.to(device), device, max(1, 1000 // self.overlays)):
                rows = torch.randint(len(over), (len(x) * self.overlays,), generator=draws)
                laid = pixels[rows.to(device)].float().div_(255)
                mixed = self.mixed(x.repeat_interleave(self.overlays, 0), laid)
                done.append(entropy(model(mixed)).view(len(x), -1).mean(1).cpu())
                run.progress("overlaying", sum(map(len, done)), len(images), "")
        return torch.cat(done)

    def mixed(self, x: Tensor, laid: Tensor) -> Tensor:
        """Images in [0, 1] with others laid over them."""
        return (x + laid).clamp_(max=1) if self.share is None else self.share * x + (1 - self.share) * laid


def entropy(logits: Tensor) -> Tensor:
    """Of each row of logits (B, K), in bits, fp64 (B,)."""
    answers = logits.double().log_softmax(1)
    return -(answers.exp() * answers).sum(1) / math.log(2)
