"""Which images a piece of work uses, and for what."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.data.splits import clean_subset, hold_out
from nad.errors import NadError

CLEAN = 0.05  # the paper's fraction of the training split that a defender holds
REPORTED = 0.2  # of a folder without splits, kept only for the reported accuracy


@dataclass(frozen=True)
class Parts:
    """The images of one piece of work by role, and the indices that say which they are."""

    train: ImageSet
    test: ImageSet
    indices: dict[str, Tensor] = field(default_factory=dict)

    def record(self, role: str) -> dict[str, Any]:
        """What a result says of its data."""
        sets = {role: self.train, "test": self.test}
        return {r: {"name": s.name, "count": len(s), "fingerprint": s.fingerprint} for r, s in sets.items()}


def split(dataset: Dataset, seed: int, clean: float | None = None) -> Parts:
    """Training and test images; without a test split a stratified fifth is kept for the reported accuracy.

    Copies of a picture go where the picture goes: what is reported was not seen.

    Args:
        clean: draw only this fraction of the training images.
    """
    if dataset.test is None:
        firsts = dataset.train.firsts()
        unlike = firsts.unique()
        _, held_back = hold_out(dataset.train.labels[unlike], REPORTED, seed, "reported")
        apart = torch.isin(firsts, unlike[held_back])
        kept, reported = (~apart).nonzero().flatten(), apart.nonzero().flatten()
        return Parts(
            dataset.train.subset(kept).decoded(),
            dataset.train.subset(reported).decoded(),
            {"used": kept, "reported": reported},
        )
    if clean is None:
        return Parts(dataset.train.decoded(), dataset.test.decoded())
    chosen = clean_subset(dataset.train, clean, seed)
    return Parts(dataset.train.subset(chosen).decoded(), dataset.test.decoded(), {"clean": chosen})


def held(dataset: Dataset, seed: int, clean: float | None) -> ImageSet:
    """What is looked at alone: a clean fraction of the training split, or all of a folder without splits."""
    if dataset.test is None and clean is None:
        return dataset.train.decoded()
    return dataset.train.subset(clean_subset(dataset.train, CLEAN if clean is None else clean, seed)).decoded()


def remarks(dataset: Dataset, clean: float | None) -> list[str]:
    """What to tell somebody who did not say how many of the images are taken, and may not know."""
    if dataset.test is None or clean is not None:
        return []
    count, whole = len(clean_subset(dataset.train, CLEAN, 0)), len(dataset.train)
    return [f"{count:,} of the {whole:,} training pictures are used, the usual {CLEAN:g}; --clean 1 takes all of them"]


def defended(dataset: Dataset, seed: int, clean: float | None) -> Parts:
    """What a defender holds: a clean fraction of the training split, or four fifths of a folder without splits."""
    if dataset.test is None:
        if clean is not None:
            raise NadError(
                f"{dataset.name} has no train and test splits, so --clean is not taken: a fifth is kept for the "
                "reported accuracy and the rest is used"
            )
        return split(dataset, seed)
    return split(dataset, seed, CLEAN if clean is None else clean)
