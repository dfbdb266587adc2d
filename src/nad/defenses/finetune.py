"""Fine-tuning: the simplest eraser, NAD's default teacher and, at the student's settings, NAD's control."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Self

from torch import Tensor, nn
from torch.nn import functional as F

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Outcome, working_copy
from nad.defenses.choosing import Fold, epochs_by_early_stopping, means, most_aggressive, over, right, unharmful
from nad.defenses.trained import Sharpened, Trained, scaled
from nad.errors import NadError
from nad.models.forward import Fixed
from nad.models.head import classifier
from nad.registry import option
from nad.runtime import Run
from nad.training import AfterEpoch, Step, fit

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)  # from gentle to aggressive: the learning rate is the dominant eraser


@dataclass(frozen=True, kw_only=True)
class Tuned(Trained):
    """A defense that trains the network on the clean images with some step, at a rate that is given or chosen."""

    stop: Literal["never", "early"] = option("never", "early chooses the number of epochs on held-out images")

    @property
    def rates(self) -> tuple[float, ...]:
        """What `lr=auto` chooses from, from gentle to aggressive."""
        return RATES

    def configuration(self) -> dict[str, Any]:
        """With the version of the rule where `chosen` decides something."""
        return super().configuration() | ({"rule": 2} if self.decides else {})

    @property
    def decides(self) -> bool:
        """Whether an option is left to `chosen`."""
        return self.chooses_lr

    @property
    def judges(self) -> bool:
        return self.decides or self.stop == "early"

    @property
    def mildest(self) -> "Tuned":
        """Training that does as little as training can: what it forgets is not held against a choice."""
        return Finetune(lr=RATES[0]).inheriting(self)

    def step(self, model: nn.Module, run: Run) -> Step:
        """The loss of a batch; called once for each training, so that what it draws starts anew."""
        raise NotImplementedError

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        """Train `model` in place; the history."""
        return fit(model, images, self.how(), run, self.step(model, run), watch, self.spec_name)

    def settled(self, model: nn.Module, images: ImageSet, run: Run) -> tuple[Self, dict[str, Any]]:
        self.enough(images)
        method, notes = self, {}
        parts = self.held_out(images, run) if self.chooses_lr or self.stop == "early" else []
        if self.chooses_lr:
            method, notes["lr"] = self.chosen("lr", self.rates, model, parts, run)
        if self.stop == "early":
            epochs, notes["epochs"] = epochs_by_early_stopping(
                lambda fold, watch: method.trained(working_copy(model), fold.kept, run, watch), parts, run
            )
            method = replace(method, until=epochs, stop="never")
        return method, notes

    def chosen(
        self, name: str, settings: Sequence[float], model: nn.Module, parts: Sequence[Fold], run: Run
    ) -> tuple[Self, dict[str, Any]]:
        """With the most aggressive of `settings`, from gentle to aggressive, for an option; and how that was found."""

        @cache
        def trial(method: Tuned) -> tuple[Tensor, dict[str, Any]]:
            ends = []

            def answers(fold: Fold) -> Tensor:
                net = working_copy(model)
                ends.append({"loss": method.trained(net, fold.kept, run)[-1]["loss"]})
                return right(net, [fold.held], run)

            found = over(parts, run, name, str(getattr(method, name, None) or method.lr), answers)
            return found, means(ends, parts)

        given, mildest, scale = right(model, [fold.held for fold in parts], run), self.mildest, None
        if name == "lr":
            milder = cache(lambda factor: replace(mildest, lr=scaled(RATES[0], factor)))
            factor, scale = unharmful(lambda one: trial(milder(one))[0], given, self.allowed_drop)
            settings, mildest = [scaled(rate, factor) for rate in settings], milder(factor)
        candidates = {setting: replace(self, **dict[str, Any]({name: setting})) for setting in settings}
        setting, note = most_aggressive(
            settings,
            lambda one: trial(candidates[one]),
            given,
            self.allowed_drop,
            control=trial(mildest)[0],
        )
        return candidates[setting], note | ({"scale": scale} if scale else {})

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        return Outcome(model, self, self.trained(model, images, run))


@DEFENSES.register("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(Tuned, Sharpened):
    """Train the whole network, or its last layer, on the clean images with the cross-entropy alone.

    Source: the NAD paper's baseline and teacher (Sections 3.1 and 4.1). `lr=auto` takes the highest of RATES
    whose held-out drop stays within `max_drop`. With `layers=last` everything before the last linear layer stays as
    it is, BatchNorm's statistics too.
    """

    layers: Literal["all", "last"] = option("all", "what is trained; last is the last linear layer")
    smoothing: float = option(0.0, "label smoothing of the cross-entropy, in [0, 1)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise NadError(f"{self.spec_name}: expected smoothing in [0, 1), got {self.smoothing:g}")

    @property
    def mildest(self) -> Tuned:
        return replace(self, lr=RATES[0])

    def step(self, model: nn.Module, run: Run) -> Step:
        def smoothed(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": F.cross_entropy(net(x).float(), y, label_smoothing=self.smoothing)}

        return smoothed

    def trained(
        self, model: nn.Module, images: ImageSet, run: Run, watch: AfterEpoch | None = None
    ) -> list[dict[str, Any]]:
        if self.layers == "all":
            return super().trained(model, images, run, watch)
        last = classifier(model, len(images.classes))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in last.parameters():
            parameter.requires_grad_(True)
        return super().trained(Fixed(model), images, run, watch)
