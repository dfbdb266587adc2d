"""Which images a piece of work uses, and for what."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nad.data.images import ImageSet
from nad.data.sources import Dataset
from nad.data.splits import clean_subset, hold_out
from nad.errors import NadError, printable
from nad.runtime import Run

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


def split(dataset: Dataset, run: Run, clean: float | None = None, seed: int | None = None) -> Parts:
    """Training and test images; without a test split a stratified fifth is kept for the reported accuracy.

    Copies of a picture go where the picture goes: what is reported was not seen.

    Args:
        clean: draw only this fraction of the training images.
        seed: that says which are drawn, where it is not the run's.
    """
    seed = run.seed if seed is None else seed
    if dataset.test is None:
        whole = in_memory(dataset.train, run)
        firsts = whole.firsts()
        unlike = firsts.unique()
        _, held_back = hold_out(whole.labels[unlike], REPORTED, seed, "reported")
        apart = torch.isin(firsts, unlike[held_back])
        kept, reported = (~apart).nonzero().flatten(), apart.nonzero().flatten()
        used, others = (in_memory(whole.subset(rows), run) for rows in (kept, reported))
        return Parts(used, others, {"used": kept, "reported": reported})
    if clean is None:
        return Parts(in_memory(dataset.train, run), in_memory(dataset.test, run))
    chosen = clean_subset(dataset.train, clean, seed)
    return Parts(in_memory(dataset.train.subset(chosen), run), in_memory(dataset.test, run), {"clean": chosen})


def held(dataset: Dataset, run: Run, clean: float | None) -> ImageSet:
    """What is looked at alone: a clean fraction of the training split, or all of a folder without splits."""
    if dataset.test is None and clean is None:
        return in_memory(dataset.train, run)
    return in_memory(
        dataset.train.subset(clean_subset(dataset.train, CLEAN if clean is None else clean, run.seed)), run
    )


def in_memory(images: ImageSet, run: Run) -> ImageSet:
    """`ImageSet.decoded`, with the progress of pictures that are read."""
    return images.decoded(lambda done: run.progress("reading the pictures", done, len(images), ""))


def remarks(dataset: Dataset, clean: float | None) -> list[str]:
    """What to tell of pictures that are not used, where nobody asked for that."""
    told = []
    if dataset.left_out:
        told.append(f"pictures beside the splits are not used: those in {printable(', '.join(dataset.left_out), 90)}")
    if dataset.test is not None and clean is None:
        count, whole = len(clean_subset(dataset.train, CLEAN, 0)), len(dataset.train)
        told.append(
            f"{count:,} of the {whole:,} training pictures are used, the usual {CLEAN:g}; --clean 1 takes all of them"
        )
    return told


def defended(dataset: Dataset, run: Run, clean: float | None, seed: int | None = None) -> Parts:
    """What a defender holds: a clean fraction of the training split, or four fifths of a folder without splits."""
    if dataset.test is None:
        if clean is not None:
            raise NadError(
                f"{dataset.name} has no train and test splits, so --clean is not taken: a fifth is kept for the "
                "reported accuracy and the rest is used"
            )
        return split(dataset, run, seed=seed)
    return split(dataset, run, CLEAN if clean is None else clean, seed)
