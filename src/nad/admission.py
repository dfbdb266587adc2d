"""Which images a defense or a detector takes: clean ones, of every class that the network has."""

import torch
from torch import nn

from nad.data.images import ImageSet, an_image_set
from nad.errors import NadError, printable
from nad.models.forward import outputs


def admitted(model: nn.Module, images: ImageSet, method: str, least: int = 2) -> ImageSet:
    """The images without a mask or original labels, if they fit the network and are what `method` may see.

    Args:
        least: how many the method needs.

    Raises:
        NadError: what is no ImageSet; images that are poisoned, too few, of one class, or of other classes than the
            network's.
    """
    images = an_image_set(images).decoded()
    if images.poisoned is not None and bool(images.poisoned.any()):
        raise NadError(f"{method} takes clean images only, got {int(images.poisoned.sum())} poisoned ones")
    counts = images.counts()
    present = sum(c > 0 for c in counts)
    if present == 1:
        raise NadError(f"expected clean images of every class, got images of one class only: {_names(images, True)}")
    if present < len(counts):
        raise NadError(f"expected clean images of every class, got none of {_names(images, False)}; add some")
    if len(images) < least:
        raise NadError(f"{method} needs at least {least} clean images, got {len(images)}")
    answers = outputs(model, images.pixels[torch.arange(1)])
    if answers != len(counts):
        raise NadError(f"the network has {answers} classes and the images have {len(counts)}; they must be equal")
    return images.plain()


def _names(images: ImageSet, present: bool) -> str:
    names = [printable(n, 40) for n, c in zip(images.classes, images.counts()) if (c > 0) == present]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
