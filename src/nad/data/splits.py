"""Parts of a set: the clean subset a defender holds, and what is kept back from it. All stratified and seeded."""

import torch
from torch import Tensor

from nad.data.images import ImageSet
from nad.errors import NadError
from nad.seeding import generator


def clean_subset(images: ImageSet, fraction: float, seed: int) -> Tensor:
    """The indices of a defender's clean images: about `fraction` of every class, and at least one of each.

    A smaller fraction with the same seed draws a part of what a larger one draws, up to the rounding of a class.

    Args:
        images: the set to draw from.
        fraction: in (0, 1].
        seed: names the draw.

    Returns:
        int64, sorted.

    Raises:
        NadError: a fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise NadError(f"expected --clean in (0, 1], got {fraction:g}")
    counts = images.counts()
    quotas = _quotas(counts, fraction, lowest=[min(1, n) for n in counts], highest=counts)
    return _draw(images.labels, quotas, seed, "clean subset")


def per_class(images: ImageSet, count: int, seed: int) -> Tensor:
    """The indices (int64, sorted) of `count` images of every class.

    Raises:
        NadError: a count below 1, or a class with fewer images.
    """
    if count < 1:
        raise NadError(f"expected at least 1 image of each class, got {count}")
    for name, available in zip(images.classes, images.counts()):
        if available < count:
            raise NadError(f"expected at least {count} images of each class, got {available} of {name}")
    return _draw(images.labels, [count] * len(images.classes), seed, "clean subset")


def hold_out(labels: Tensor, fraction: float, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Split stratified into what is kept and what is held out; every class keeps at least one image.

    Args:
        labels: int64 (N,).
        fraction: the part that is held out, in (0, 1).
        seed: names the draw together with `name`.
        name: what the held-out part is for.

    Returns:
        The kept and the held-out indices: int64, sorted, together 0..N-1; at least one is held out.

    Raises:
        NadError: a fraction out of range, or no class with an image to spare.
    """
    if not 0 < fraction < 1:
        raise NadError(f"expected a held-out fraction in (0, 1), got {fraction:g}")
    counts = torch.bincount(labels).tolist()
    spare = [max(0, n - 1) for n in counts]
    if not any(spare):
        raise NadError(f"expected a class with at least 2 images to hold one out, got {len(labels)} images; give more")
    quotas = _quotas(counts, fraction, lowest=[0] * len(counts), highest=spare)
    held = _draw(labels, quotas, seed, f"hold out/{name}")
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().flatten(), held


def _quotas(counts: list[int], fraction: float, lowest: list[int], highest: list[int]) -> list[int]:
    """How many of each class, so that the total is the rounded fraction of all: the method of largest remainders.

    The total gives way where the bounds of the classes forbid it.
    """
    exact = [fraction * n for n in counts]
    quotas = [min(max(int(x), low), high) for x, low, high in zip(exact, lowest, highest)]
    total = max(1, round(fraction * sum(counts)))
    while sum(quotas) < total:
        free = [c for c, n in enumerate(quotas) if n < highest[c]]
        if not free:
            break
        quotas[max(free, key=lambda c: exact[c] - quotas[c])] += 1
    while sum(quotas) > total:
        free = [c for c, n in enumerate(quotas) if n > lowest[c]]
        if not free:
            break
        quotas[min(free, key=lambda c: exact[c] - quotas[c])] -= 1
    return quotas


def _draw(labels: Tensor, quotas: list[int], seed: int, name: str) -> Tensor:
    """`quotas[c]` indices of each class c, sorted."""
    labels = labels.cpu()
    stream = generator(seed, name)
    drawn = []
    for label, quota in enumerate(quotas):
        members = (labels == label).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=stream)[:quota]])
    return torch.cat(drawn).sort().values
