"""Add an eraser of your own: a frozen dataclass with `erase`; checks, copying and seeding are done for you.

python examples/own_defense.py
"""

from dataclasses import dataclass

from torch import nn

import nad
from nad.data.synthetic import signs
from nad.registry import option
from nad.training import Recipe, fit


@nad.DEFENSES.register("head")
@dataclass(frozen=True, kw_only=True)
class Head(nad.Defense):
    """Train the last linear layer alone.

    Source: this example.
    """

    epochs: int = option(2, "passes over the clean images")
    lr: float = option(0.05, "learning rate")

    def erase(self, model: nn.Module, images: nad.ImageSet, run: nad.Run) -> nad.Outcome:
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        model.requires_grad_(False)
        last.requires_grad_(True)
        history = fit(model, images, Recipe(epochs=self.epochs, lr=self.lr, schedule="constant"), run)
        return nad.Outcome(model, self, history)


def main(count: int = 480) -> tuple[nad.Outcome, nad.Outcome]:
    model = nad.create("wrn-10-1", 12)
    images = signs("train", count, size=16)
    alone = nad.purify(model, images, "head:lr=0.1")
    as_teacher = nad.purify(model, images, "nad:teacher=head,lr=0.01,beta=1,epochs=1")  # at once a teacher for NAD
    print(alone.method, "and", as_teacher.method)
    return alone, as_teacher


if __name__ == "__main__":
    main()
