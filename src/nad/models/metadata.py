"""What is said of the pixels that a network was trained on: by the library of its architecture, or beside its file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nad.errors import NadError, printable
from nad.extras import require, torchvision
from nad.models.normalize import Normalisation, check, written

MOST_BYTES = 16 << 20  # of a file that describes a network


@dataclass(frozen=True)
class Expected:
    """Pixels that a network expects.

    Args:
        source: who says so.
        normalisation: mean and standard deviation; None for pixels in [0, 1].
        size: (height, width); None where any will do.
        exchanged: whether blue comes first, where red does everywhere else.
    """

    source: str
    normalisation: Normalisation | None
    size: tuple[int, int] | None
    exchanged: bool = False

    def told(self) -> str:
        """What to tell of a normalisation that somebody else chose."""
        what = f"normalised by {written(self.normalisation)}" if self.normalisation else "not normalised"
        if self.size:
            what += " at {}x{}".format(*self.size)
        if self.exchanged:
            what += " with red and blue exchanged"
        return f"pixels are {what}, as {self.source} says; --normalise and --size set others"


def of_torchvision(name: str, size: str | None) -> Expected:
    """The transforms of the weights that torchvision gives `name` where nothing else is asked for.

    Args:
        size: that it is made for, where the user says one.
    """
    preset: Any = torchvision("models").get_model_weights(name).DEFAULT.transforms()
    side = int(size or preset.crop_size[0])
    return Expected(f"torchvision's {name}", check(preset.mean, preset.std), (side, side))


def of_timm(name: str, size: str | None) -> Expected | None:
    """timm's default configuration of `name`; None where it has none for three channels. `size` as above."""
    torchvision("models")
    config = require("timm.models", "timm").get_pretrained_cfg(name)
    if config is None or config.input_size[0] != 3:
        return None
    height, width = (int(size),) * 2 if size else map(int, config.input_size[1:])
    return Expected(f"timm's {name}", check(config.mean, config.std), (height, width))


def of_preprocessor(name: str, values: Mapping[str, Any]) -> Expected:
    """The `preprocessor_config.json` of transformers, whose numbers are for pixels from 0 to 255.

    Args:
        name: of the file, for the error.
        values: its content.

    Raises:
        NadError: numbers that do not fit.
    """
    try:
        scale = 255 * float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 255.0
        offset = 1.0 if values.get("rescale_offset") else 0.0
        normalises = values.get("do_normalize", True) and "image_mean" in values
        mean, std = (_three(values[k]) for k in ("image_mean", "image_std")) if normalises else ([0.0] * 3, [1.0] * 3)
        around = check([(m + offset) / scale for m in mean], [s / scale for s in std])
        crop = values.get("crop_size") if values.get("do_center_crop") else None
        side = size_of(crop or values.get("size"))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:  # NadError is a ValueError
        raise NadError(
            f"{printable(name)}: expected the settings of an image processor ({printable(error)})"
        ) from error
    raw = around == check([0.0] * 3, [1.0] * 3)
    return Expected(printable(name), None if raw else around, side, values.get("do_flip_channel_order") is True)


def size_of(value: Any) -> tuple[int, int] | None:
    """Height and width in any of the ways in which transformers writes them."""
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge")
        value = [value["height"], value["width"]] if edge is None else edge
    if value is None:
        return None
    height, width = map(int, value if isinstance(value, list) else (value, value))
    if min(height, width) < 1:
        raise ValueError(f"size {height}x{width}")
    return height, width


def _three(value: Any) -> list[float]:
    return [float(number) for number in (value if isinstance(value, list) else [value] * 3)]
