"""Pictures that need a network: attention maps of the same images before and after."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nad.attention import Operator, attention_map
from nad.data.images import ImageSet
from nad.errors import printable
from nad.inversion import Triggers
from nad.models.stages import Stage, find_stages, tap
from nad.runtime import Run

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def attention_maps(
    model: nn.Module, pixels: Tensor, run: Run, stages: Sequence[Stage] = ()
) -> tuple[list[str], Tensor, Tensor]:
    """A_sum^2 at every stage, and the predictions.

    Args:
        pixels: uint8 (N, 3, H, W). stages: where; found by probing where none is said.

    Returns:
        The stages' names; maps fp32 (stages, N, H, W) scaled to 0..1 for each image, at the images' size;
        predicted classes int64 (N,).
    """
    found = _activations(model, pixels, run, stages)
    size = (pixels.shape[2], pixels.shape[3])
    scaled = torch.stack([_grown(attention_map(features), size) for _, features in found])
    return [name for name, _ in found], scaled, _answers(model, pixels, run)


def png(draw: Callable[[BinaryIO], None]) -> bytes:
    """The file that a figure here would write."""
    buffer = io.BytesIO()
    draw(buffer)
    return buffer.getvalue()


def attention_figure(
    clean: ImageSet,
    triggered: Tensor | None,
    networks: Mapping[str, nn.Module],
    path: Path | BinaryIO,
    run: Run,
    stages: Sequence[Stage] = (),
) -> None:
    """Draw each image clean and triggered, and the attention of each network on both, one row a picture.

    Args:
        clean: a few images with their true labels.
        triggered: uint8, the same images with the trigger; None where nobody knows it.
        networks: by the name to print, such as before and after.
        path: the PNG to write. stages: of every network; found by probing where none is said.
    """
    kinds = [clean.pixels[torch.arange(len(clean))], *([] if triggered is None else [triggered])]
    pixels = torch.stack(kinds, 1).flatten(0, 1)  # clean, triggered, clean, ...
    found = {name: attention_maps(model, pixels, run, stages) for name, model in networks.items()}
    columns = 1 + sum(len(names) for names, _, _ in found.values())
    figure, axes = plt.subplots(len(pixels), columns, figsize=(1.35 * columns, 1.62 * len(pixels)), squeeze=False)
    try:
        for row, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
            truth = int(clean.labels[row // len(kinds)])
            title = "" if triggered is None else "triggered" if row % 2 else "clean"
            _panel(axes[row][0], image, title, _name(clean, truth))
            column = 1
            for name, (names, maps, predicted) in found.items():
                answer = int(predicted[row])
                for stage, attention in zip(names, maps[:, row].numpy()):
                    title = f"{name}\n{stage}" if row == 0 else ""
                    _panel(axes[row][column], image, title, "", attention)
                    column += 1
                middle = axes[row][column - (len(names) + 1) // 2]
                colour = "#1a7f37" if answer == truth else "#cf222e"
                middle.set_xlabel(f"says: {_name(clean, answer)}", fontsize=8, color=colour, labelpad=3)
        figure.tight_layout(pad=0.5)
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def patch_figure(found: Mapping[str, Triggers], classes: Mapping[int, str], path: Path | BinaryIO) -> None:
    """Draw the smallest patch that leads to each class, on grey: one row a network, one column a class.

    Args:
        found: what was inverted from each network, by the name to print. classes: the name of each class to draw.
        path: the PNG to write.
    """
    across = max(2, len(classes))
    figure, axes = plt.subplots(len(found), across, figsize=(1.5 * across, 1.9 * len(found)), squeeze=False)
    try:
        for line, (name, triggers) in zip(axes, found.items()):
            for axis in line[len(classes) :]:
                axis.axis("off")
            for axis, (label, shown) in zip(line, classes.items()):
                grey = torch.full((1, *triggers.patterns.shape[1:]), 0.5)
                image = triggers.stamped(grey, torch.tensor([label]))[0].permute(1, 2, 0).numpy()
                part = triggers.norms[label].item() / triggers.masks[0].numel()
                caption = f"{100 * part:.1f} % of the picture"
                _panel(axis, image, printable(shown, 24).replace("$", r"\$"), caption)
            line[0].set_ylabel(name, fontsize=8)
        figure.tight_layout(pad=0.5, h_pad=1.2)
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


OPERATORS: dict[str, tuple[Operator, float]] = {
    "A_mean": ("mean", 1),
    "A_mean^2": ("mean", 2),
    "A_sum": ("sum", 1),
    "A_sum^2": ("sum", 2),
    "A_sum^3": ("sum", 3),
}


def channel_figure(triggered: Tensor, networks: Mapping[str, nn.Module], path: Path, run: Run) -> None:
    """Draw every channel of each network's last stage on one image, all on one scale; one panel a network.

    Args:
        triggered: uint8 (1, 3, H, W). networks: by the name to print. path: the PNG to write.
    """
    maps = {name: _activations(model, triggered, run)[-1][1][0].abs() for name, model in networks.items()}
    most = max(float(channels.max()) for channels in maps.values())
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(2.6 * (1 + len(maps)), 2.9), squeeze=False)
    try:
        _panel(axes[0][0], triggered[0].permute(1, 2, 0).numpy(), "triggered", "")
        for axis, (name, channels) in zip(axes[0][1:], maps.items()):
            axis.imshow(_tiled(channels).numpy(), cmap="inferno", interpolation="nearest", vmin=0, vmax=most)
            axis.set_title(f"{name}: {len(channels)} channels", fontsize=8, pad=3)
            axis.axis("off")
        figure.tight_layout(pad=0.5)
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def operator_figure(triggered: Tensor, networks: Mapping[str, nn.Module], path: Path, run: Run) -> None:
    """Draw one image's attention at each network's last stage under each operator, one row a network.

    Args:
        triggered: uint8 (1, 3, H, W). networks: by the name to print. path: the PNG to write.
    """
    columns = 1 + len(OPERATORS)
    figure, axes = plt.subplots(len(networks), columns, figsize=(1.5 * columns, 1.7 * len(networks)), squeeze=False)
    try:
        image = triggered[0].permute(1, 2, 0).numpy()
        for line, (name, model) in zip(axes, networks.items()):
            features = _activations(model, triggered, run)[-1][1]
            _panel(line[0], image, "", "")
            line[0].set_ylabel(name, fontsize=8)
            for axis, (title, (operator, p)) in zip(line[1:], OPERATORS.items()):
                drawn = _grown(attention_map(features, operator, p), (triggered.shape[2], triggered.shape[3]))[0]
                _panel(axis, image, title if model is next(iter(networks.values())) else "", "", drawn.numpy())
        figure.tight_layout(pad=0.5)
        figure.savefig(path, dpi=130)
    finally:
        plt.close(figure)


def _activations(model: nn.Module, pixels: Tensor, run: Run, stages: Sequence[Stage] = ()) -> list[tuple[str, Tensor]]:
    """Name and activation, fp32 (N, C, H, W) on the CPU, of every stage."""
    device = run.torch_device
    model.to(device).eval()
    x = pixels.to(device).float() / 255
    stages = stages or find_stages(model, x[:1])
    with torch.no_grad(), tap(model, stages) as taps:
        model(x)
        return [(stage.name, taps[stage.name].float().cpu()) for stage in stages]


def _answers(model: nn.Module, pixels: Tensor, run: Run) -> Tensor:
    with torch.no_grad():
        answers: Tensor = model(pixels.to(run.torch_device).float() / 255).argmax(1).cpu()
    return answers


def _grown(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w) maps at the images' size, each scaled to 0..1."""
    grown = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return grown / grown.flatten(1).amax(1).clamp_min(1e-12)[:, None, None]


def _tiled(channels: Tensor) -> Tensor:
    """(C, H, W) as one picture of about as many rows as columns, a line between them."""
    count, height, width = channels.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    sheet = channels.new_full((down * (height + 1), across * (width + 1)), float("nan"))
    for number, channel in enumerate(channels):
        top, left = number // across * (height + 1), number % across * (width + 1)
        sheet[top : top + height, left : left + width] = channel
    return sheet


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
