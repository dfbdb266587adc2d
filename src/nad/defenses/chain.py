"""Two erasers, one after the other."""

from dataclasses import dataclass, replace

from torch import nn

from nad.data.images import ImageSet
from nad.defenses.base import DEFENSES, Defense, Outcome
from nad.defenses.finetune import Finetune
from nad.defenses.ft_sam import FTSAM
from nad.registry import option
from nad.runtime import Run


@DEFENSES.register("chain")
@dataclass(frozen=True, kw_only=True)
class Chain(Defense):
    """Erase with one method, then with another: what the first leaves may be within reach of the second.

    Each makes its choices against the network that it is given, so that drops in accuracy add up, and the second on
    images that the first one trained on, so that they are gentler than alone. Channels that the first one prunes stay
    pruned. Nested, it joins more than two.

    Source: none; what every published pipeline of pruning and fine-tuning does, for any two.
    """

    version = 2

    first: Defense = option(Finetune(), "the eraser of the given network")
    then: Defense = option(FTSAM(), "the eraser of what the first gives")

    def erase(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        first = self.first(model, images, run)
        then = self.then(first.model, images, run.child("then"))
        notes = {"first": first.notes, "then": then.notes}
        made = replace(self, first=first.method, then=then.method)
        return Outcome(then.model, made, first.history + then.history, {k: v for k, v in notes.items() if v})
