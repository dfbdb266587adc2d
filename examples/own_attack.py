"""Plant a trigger of your own and measure it: an attack is one frozen dataclass with `apply`.

python examples/own_attack.py
"""

from dataclasses import dataclass

from torch import Tensor

import nad
from nad.data.synthetic import signs
from nad.registry import option
from nad.results import Metrics
from nad.training import Recipe, fit


@nad.ATTACKS.register("frame")
@dataclass(frozen=True, kw_only=True)
class Frame(nad.Attack):
    """A bright frame around the whole image.

    Source: this example.
    """

    level: int = option(255, "grey value of the frame, 0..255")

    def apply(self, pixels: Tensor, indices: Tensor, phase: str) -> Tensor:
        framed = pixels.clone()
        framed[:, :, [0, -1], :] = self.level
        framed[:, :, :, [0, -1]] = self.level
        return framed


def main(count: int = 1200, epochs: int = 6) -> Metrics:
    attack = nad.Attack.parse("frame:level=240,target=3,rate=0.1")
    run = nad.Run(seed=0)
    model = nad.create("wrn-10-1", 12)
    fit(model, attack.poison(signs("train", count, size=16), run), Recipe(epochs=epochs, schedule="onecycle"), run)
    metrics = nad.evaluate(model, signs("test", 240, size=16), attack)
    print(f"{attack}: accuracy {metrics.acc.rate:.2f}, attack success {metrics.asr.rate:.2f}")
    return metrics


if __name__ == "__main__":
    main()
