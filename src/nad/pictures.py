"""Pictures that need a network: attention maps of the same images before and after."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attention import attention_map
from nad.data.images import ImageSet
from nad.errors import printable
from nad.models.stages import find_stages, tap
from nad.runtime import Run

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def attention_maps(model: nn.Module, pixels: Tensor, run: Run) -> tuple[list[str], Tensor, Tensor]:
    """A_sum^2 at every stage, and the predictions.

    Args:
        pixels: uint8 (N, 3, H, W).

    Returns:
        The stages' names; maps fp32 (stages, N, H, W) scaled to 0..1 for each image, at the images' size;
        predicted classes int64 (N,).
    """
    device = run.torch_device
    model.to(device).eval()
    x = pixels.to(device).float() / 255
    stages = find_stages(model, x[:1])
    with torch.no_grad(), tap(model, stages) as taps:
        predicted = model(x).argmax(1).cpu()
        maps = [attention_map(taps[s.name])[:, None] for s in stages]
    grown = [F.interpolate(m, size=pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu() for m in maps]
    scaled = torch.stack([m / m.flatten(1).amax(1).clamp_min(1e-12)[:, None, None] for m in grown])
    return [s.name for s in stages], scaled, predicted


def attention_figure(
    clean: ImageSet, triggered: Tensor, networks: Mapping[str, nn.Module], path: Path, run: Run
) -> None:
    """Draw each image clean and triggered, and the attention of each network on both, one row a picture.

    Args:
        clean: a few images with their true labels. triggered: uint8, the same images with the trigger.
        networks: by the name to print, such as before and after.
        path: the PNG to write.
    """
    pixels = torch.stack([clean.pixels[torch.arange(len(clean))], triggered], 1).flatten(0, 1)  # clean, triggered, ...
    found = {name: attention_maps(model, pixels, run) for name, model in networks.items()}
    columns = 1 + sum(len(names) for names, _, _ in found.values())
    figure, axes = plt.subplots(len(pixels), columns, figsize=(1.35 * columns, 1.62 * len(pixels)), squeeze=False)
    try:
        for row, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            truth = int(clean.labels[row // 2])
            _panel(axes[row][0], image, "triggered" if row % 2 else "clean", _name(clean, truth))
            column = 1
            for name, (stages, maps, predicted) in found.items():
                answer = int(predicted[row])
                for stage, attention in zip(stages, maps[:, row].numpy()):
                    title = f"{name}\n{stage}" if row == 0 else ""
                    _panel(axes[row][column], image, title, "", attention)
                    column += 1
                middle = axes[row][column - (len(stages) + 1) // 2]
                colour = "#1a7f37" if answer == truth else "#cf222e"
                middle.set_xlabel(f"says: {_name(clean, answer)}", fontsize=8, color=colour, labelpad=3)
        figure.tight_layout(pad=0.5)
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def trigger_sheet(clean: ImageSet, triggered: Mapping[str, Tensor], path: Path) -> None:
    """Draw images clean, triggered in each phase, and what was changed, amplified; one column an image.

    Args:
        clean: a few images with their labels. triggered: uint8 pixels of the same images, by phase.
        path: the PNG to write.
    """
    before = clean.pixels[torch.arange(len(clean))]
    rows: list[tuple[str, Tensor]] = [("clean", before)]
    for phase, pixels in triggered.items():
        change = pixels.int() - before.int()
        largest = int(change.abs().max())
        usual = (
            change[change != 0].abs().double().quantile(0.9).item() if largest else 1
        )  # a few large ones may saturate
        factor = max(1.0, 127 / usual)
        amplified = (128 + change * factor).round().clamp(0, 255).byte()
        rows += [(phase, pixels), (f"change x{factor:.3g}\n(largest {largest})", amplified)]
    figure, axes = plt.subplots(len(rows), len(clean), figsize=(1.2 * len(clean), 1.35 * len(rows)), squeeze=False)
    try:
        for line, (name, pixels) in zip(axes, rows):
            for column, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
                first = name == "clean"
                _panel(line[column], image, _name(clean, int(clean.labels[column])) if first else "", "")
            line[0].set_ylabel(name, fontsize=8)
        figure.tight_layout(pad=0.4)
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def _name(images: ImageSet, label: int) -> str:
    return printable(images.classes[label], 24).replace("$", r"\$")  # a dollar would start matplotlib's formulas


def _panel(axis: plt.Axes, image: np.ndarray, title: str, caption: str, attention: np.ndarray | None = None) -> None:
    if attention is None:
        axis.imshow(image, interpolation="nearest")
    else:
        axis.imshow(image.mean(2), cmap="gray", interpolation="nearest", alpha=0.9)
        axis.imshow(attention, cmap="inferno", interpolation="nearest", alpha=0.65, vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=8, pad=3)
    if caption:
        axis.set_xlabel(caption, fontsize=8, labelpad=3)
