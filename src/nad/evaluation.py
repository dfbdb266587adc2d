"""Accuracy, attack success rate and recovered accuracy. Never called inside a defense."""

import copy
import hashlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from nad.attacks.base import Attack
from nad.data.images import ImageSet, an_image_set
from nad.detection.base import Detector
from nad.errors import NadError
from nad.keeping import Piece, made_once
from nad.results import Count, Metrics
from nad.runtime import Run
from nad.training import Recipe, fit, predictions

REACTIVATION, POISONED = Recipe(epochs=5, lr=0.01, schedule="constant"), 5


def measured(
    labels: Tensor, clean: Tensor, triggered: Tensor | None = None, attack: Attack | None = None, classes: int = 0
) -> Metrics:
    """Metrics from predictions.

    Args:
        labels: int64 (N,), the true classes of the test images.
        clean: int64 (N,), predictions on them.
        triggered: int64 (M,), predictions on `attack.triggered(test)`, which leaves out the target's own images.
        attack: None for accuracy alone.

    Raises:
        NadError: a triggered set of another size, such as one that contains images of the target class.
    """
    acc = _count(clean == labels)
    if attack is None or triggered is None:
        return Metrics(acc)
    asked = attack.evaluated(labels)
    if len(triggered) != int(asked.sum()):
        raise NadError(f"expected predictions for {int(asked.sum())} triggered images, got {len(triggered)}")
    truth = labels[asked]
    obeyed, right = triggered == attack.answers(truth, classes), _count(triggered == truth)
    if attack.single_target is None:
        by_class = tuple(_count(obeyed[truth == c]) for c in range(classes))
        return Metrics(acc, asr=_count(obeyed), ra=right, asr_by_class=by_class)
    return Metrics(acc, _count((clean == labels)[asked]), _count(obeyed), right)


def _count(hits: Tensor) -> Count:
    return Count(int(hits.sum()), hits.numel())


def evaluate(
    model: nn.Module,
    test: ImageSet,
    attack: Attack | str | None = None,
    run: Run | None = None,
    clean: Tensor | None = None,
) -> Metrics:
    """Evaluate in eval mode, without augmentation, on all test images.

    Args:
        model: takes fp32 (N, 3, H, W) pixels in [0, 1], gives (N, classes) logits; a copy is asked where it has another
            precision. Left as it was, but for the run's device and channels-last memory.
        test: clean test images with their labels.
        attack: where given, an attack or its specification: success is measured on its triggered copies of them.
        run: device and precision.
        clean: int64 (N,), predictions on `test`, where somebody made them already.

    Returns:
        Counts of right and of all answers: accuracy and, with an attack, its success (ASR), recovered accuracy, and
        accuracy without the target class; `.rate` of each is a fraction.

    Raises:
        NadError: what is no ImageSet, or an attack that there is not or that does not fit the images.
    """
    run, test = run or Run(), an_image_set(test)
    attack = None if attack is None else Attack.parse(attack)
    clean = predictions(model, test, run) if clean is None else clean
    triggered = None if attack is None else predictions(model, attack.triggered(test), run)
    return measured(test.labels.cpu(), clean, triggered, attack, len(test.classes))


def evaluated_once(model: nn.Module, test: ImageSet, attack: Attack | None, run: Run) -> Metrics:
    """`evaluate`, or what it gave before for the same network, images, attack and precision.

    Kept below `run.keep`; nothing is where that is None, or where the attack names a file or a callable.
    """

    def make() -> Metrics:
        return evaluate(model, test, attack, run)

    if not (attack is None or attack.speaks_for_itself):
        return make()
    asked = {
        "attack": attack.configuration() if attack else None,
        "trigger": {key: _digest(tensor) for key, tensor in attack.tensors.items()} if attack else None,
        "run": run.describe() | {"seed": None},
    }
    return made_once(
        "evaluated",
        model,
        test,
        run,
        asked,
        make,
        lambda m: Piece({}, m.to_json()),
        lambda p: Metrics.from_json(p.record),
    )


def _digest(tensor: Tensor) -> str:
    shape = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    return hashlib.sha256(shape + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def reactivated(
    model: nn.Module, images: ImageSet, test: ImageSet, attack: Attack, run: Run, count: int = POISONED
) -> Metrics:
    """Evaluate after fine-tuning on clean images and a few poisoned ones: how fast a backdoor comes back.

    A network that was never backdoored, treated the same way, says how much of it is learned anew.

    Source: Min et al., "Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor Defense", NeurIPS
    2024, whose attack this is in a small form: 5 epochs at 0.01.

    Args:
        model: left as it is.
        images: the defender's clean images; `count` of them, of classes that the trigger is to change, are poisoned.
    """
    drawn = torch.randperm(len(images), generator=run.generator("reactivation"))
    chosen = drawn[attack.evaluated(images.labels[drawn])][:count]
    labels, mask = images.labels.clone(), torch.zeros(len(images), dtype=torch.bool)
    labels[chosen] = attack.answers(labels[chosen], len(images.classes))
    mask[chosen] = True
    poisoned = replace(images, pixels=attack.planted(images.pixels, mask, "test"), labels=labels)
    model = copy.deepcopy(model).float().requires_grad_(True)
    fit(model, poisoned, REACTIVATION, run, name="re-activation")
    return evaluate(model, test, attack, run)


def caught(
    detector: Detector, model: nn.Module, images: ImageSet, test: ImageSet, attack: Attack, run: Run, most: int = 500
) -> tuple[Count, Count]:
    """What a detector of inputs flags: of triggered test images, and of clean ones.

    Args:
        images: the defender's clean images. test: clean test images; the trigger is put on copies of them.
        most: images of either kind; drawn from the run's seed.

    Raises:
        NadError: a detector that judges networks.
    """
    counts = []
    for kind in (attack.triggered(test), test):
        some = kind.subset(torch.randperm(len(kind), generator=run.generator("detected"))[:most])
        rows = detector(model, images, run, some).rows
        counts.append(Count(sum(bool(row["flagged"]) for row in rows), len(rows)))
    return counts[0], counts[1]
