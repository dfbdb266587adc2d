"""Pictures labelled by the network that is to be looked at."""

from dataclasses import replace

import torch
from torch import Tensor

from nad.data.batches import in_order
from nad.data.images import ImageSet
from nad.data.labelling import RISK, Labelling
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.models.checkpoints import Loaded
from nad.models.forward import evaluating
from nad.pipeline.fitting import answering
from nad.pipeline.judging import agree
from nad.pipeline.parts import in_memory
from nad.runtime import Run

CONFIDENT = 0.9


def labelled(loaded: Loaded, dataset: Dataset, run: Run) -> tuple[Loaded, Dataset]:
    """The pictures that the network is sure of, with its answers as their labels, and the network as `fitted` gives it.

    A picture is kept where the softmax probability of the answer is at least `CONFIDENT`.

    Args:
        dataset: its labels are ignored; its classes are the network's.

    Raises:
        NadError: fewer than two classes of pictures that it is sure of.
    """
    loaded = answering(loaded, dataset.train)
    run = run.suiting(loaded.model)
    agree(loaded, dataset.train)
    splits = [in_memory(images, run) for images in (dataset.train, dataset.test) if images is not None]
    answers = [_answers(loaded, images, run) for images in splits]
    labels, sure = (torch.cat(both) for both in zip(*answers))
    kept, dropped = (tuple(torch.bincount(labels[s], minlength=loaded.classes).tolist()) for s in (sure, ~sure))
    how = Labelling(CONFIDENT, kept, dropped, dataset.classes)
    if sum(n > 0 for n in kept) < 2 or not all(bool(s.any()) for _, s in answers):
        raise NadError(f"{how.told()}\nexpected at least two classes of pictures that are kept; give others, or labels")
    chosen = [replace(i, labels=y).subset(s.nonzero().flatten()) for i, (y, s) in zip(splits, answers)]
    made = replace(dataset, train=chosen[0], test=chosen[1] if dataset.test else None, labelling=how)
    return replace(loaded, notes=(*loaded.notes, how.told(), f"warning: {RISK}")), made


def every_class(how: Labelling, images: ImageSet) -> None:
    """Refuse labelled images to train on that lack a class.

    Raises:
        NadError: of a class no picture is left; how many were kept, and what to do.
    """
    if lacking := [name for name, n in zip(images.classes, images.counts()) if n == 0]:
        raise NadError(
            f"{how.told()}\nno picture to train on is left of {len(lacking)} of {len(images.classes)} classes, such as "
            f"{printable(lacking[0], 60)}: give more pictures, or labels"
        )


def _answers(loaded: Loaded, images: ImageSet, run: Run) -> tuple[Tensor, Tensor]:
    """The network's class of each image, and whether it is sure."""
    device, found = run.torch_device, []
    model = loaded.model.to(device)
    with evaluating(model), run.inference():
        for x, _ in in_order(images.to(device), device):
            found.append(model(x).float().softmax(1).cpu())
    probability, answer = torch.cat(found).max(1)
    return answer, probability >= CONFIDENT
