"""Batches of a set, the same way whether it lies in memory or is decoded as it is needed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nad.data.augment import Augmentation, Draws
from nad.data.images import ImageSet, Pixels
from nad.errors import NadError

AT_ONCE = 500  # images of a batch that no gradient is taken of
WORKERS = 2  # decoding processes for a set that does not fit in memory


@dataclass(frozen=True)
class Epoch:
    """One pass: the order of the images and the random decisions of their augmentation, drawn before it starts."""

    order: Tensor
    draws: Draws
    batch: int
    min_batch: int = 1

    def bounds(self) -> list[tuple[int, int]]:
        """Start and end of each batch; a last batch smaller than `min_batch` is dropped unless it is the only one."""
        n = len(self.order)
        edges = [(s, min(s + self.batch, n)) for s in range(0, n, self.batch)]
        return edges[:-1] if len(edges) > 1 and edges[-1][1] - edges[-1][0] < self.min_batch else edges


def channels_last(images: ImageSet) -> ImageSet:
    """The same set with its pixels in (N, H, W, C) memory, from which batches are gathered fastest."""
    if not isinstance(images.pixels, Tensor):
        return images
    return replace(images, pixels=images.pixels.contiguous(memory_format=torch.channels_last))


def batches(images: ImageSet, epoch: Epoch, augmentation: Augmentation, device: torch.device) -> Iterator[tuple]:
    """Pairs of fp32 (B, 3, H, W) pixels in [0, 1], channels last, and int64 (B,) labels, on `device`."""
    order, draws, labels = epoch.order.to(device), epoch.draws.to(device), images.labels.to(device)
    if isinstance(images.pixels, Tensor):
        for start, end in epoch.bounds():
            rows = order[start:end]
            batch = augmentation.gather(images.pixels, rows, draws.at(slice(start, end)))
            yield batch.float().div_(255), labels[rows]
        return
    chunks = [epoch.order[start:end] for start, end in epoch.bounds()]
    loader = DataLoader(_Decoded(images.pixels), sampler=chunks, batch_size=None, num_workers=WORKERS)
    for (start, end), decoded in zip(epoch.bounds(), loader):
        if isinstance(decoded, NadError):
            raise decoded
        rows = torch.arange(end - start, device=device)
        batch = augmentation.gather(decoded.to(device), rows, draws.at(slice(start, end)))
        yield batch.float().div_(255), labels[order[start:end]]


class _Decoded(Dataset[Tensor | NadError]):
    """Pixels of any kind as a loader wants them; an error is given, since one that is raised loses its message."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __getitem__(self, rows: Tensor) -> Tensor | NadError:
        try:
            return self.pixels[rows]
        except NadError as error:
            return error


def in_order(images: ImageSet, device: torch.device, batch: int = AT_ONCE) -> Iterator[tuple]:
    """The whole set in its own order, without augmentation: for evaluation."""
    yield from batches(images, Epoch(torch.arange(len(images)), Draws(), batch), Augmentation(), device)


def endless(
    images: ImageSet, augmentation: Augmentation, batch: int, draws: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches in a new order every pass, for an optimisation that counts steps and not epochs."""
    images = channels_last(images.to(device))
    while True:
        order = torch.randperm(len(images), generator=draws)
        drawn = Epoch(order, augmentation.draw(len(images), images.size, draws), batch, min(batch, 16))
        yield from batches(images, drawn, augmentation, device)
