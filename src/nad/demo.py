"""The demonstration: plant a backdoor in a road-sign classifier, erase it beside its controls, show both."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nad.attacks.base import Attack
from nad.data import sources
from nad.data.images import ImageSet
from nad.defenses.base import Defense
from nad.pictures import attention_figure
from nad.pipeline import Made, Terms, loaded_from, purify_checkpoint, train
from nad.results import Metrics, write_json
from nad.runtime import Run
from nad.training import Recipe

MODEL = "wrn-16-1"
ATTACK = "badnets:target=0,rate=0.1"
VICTIM = Recipe(epochs=20, lr=0.2, schedule="onecycle", batch=128, weight_decay=5e-4)
CLEAN = 0.1
TEACHER = "finetune:lr=0.1,schedule=onecycle,epochs=30,augment=crop"
STUDENT = "lr=0.005,schedule=cosine,epochs=20,augment=crop"
ERASERS = {
    "teacher alone": TEACHER,
    "control: beta 0": f"nad:beta=0,{STUDENT}",
    "NAD": f"nad:teacher=({TEACHER}),beta=5000/10000/10000,loss=mse,{STUDENT}",
}
PICTURED = 3  # images in the picture


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration made."""

    victim: Made
    erased: dict[str, Made]
    clean: ImageSet
    triggered: Tensor
    run: Run

    @property
    def rows(self) -> list[tuple[str, Metrics, float | None]]:
        """The table: name, metrics, seconds."""
        after = [(f"after {name}", made.result.after, made.result.seconds) for name, made in self.erased.items()]
        return [("before (victim)", self.victim.result.after, self.victim.result.seconds), *after]

    def to_json(self) -> dict[str, Any]:
        made = {"victim": self.victim} | self.erased
        return {"before": self.victim.result.after.to_json()} | {k: m.result.to_json() for k, m in made.items()}

    def reading(self) -> Iterator[str]:
        """What the numbers of this run say, computed from them."""
        rate = {name: made.result.after.asr for name, made in self.erased.items()}
        control, ours = rate["control: beta 0"], rate["NAD"]
        if control and ours:
            yield (
                f"The trigger works on {100 * control.rate:.1f} % of the images after plain fine-tuning at NAD's rate, "
                f"and on {100 * ours.rate:.1f} % after NAD: the difference is what the teacher's attention did."
            )
        yield "One run is one seed; see docs/demo.md for five."

    def write(self, folder: Path) -> None:
        """Networks, results and the picture, into an existing folder."""
        for name, made in {"victim": self.victim, "purified": self.erased["NAD"]}.items():
            (folder / name).mkdir()
            made.write(folder / name)
        write_json(folder / "result.json", self.to_json())
        networks = {"before": self.victim.model, "after NAD": self.erased["NAD"].model}
        attention_figure(self.clean, self.triggered, networks, folder / "attention.png", self.run)


def demo(run: Run) -> Demonstration:
    """Train the victim, purify it with each eraser from the same clean images, pick images to draw."""
    attack = Attack.parse(ATTACK)
    run.progress("rendering road signs", 0, 1, "")
    dataset = sources.load("signs")
    run.progress("rendering road signs", 1, 1, "")
    victim = train(dataset, MODEL, attack, VICTIM, run)
    erasers = [Defense.parse(spec) for spec in ERASERS.values()]
    made = purify_checkpoint(loaded_from(victim), dataset, erasers, run, Terms(clean=CLEAN, attack=attack))
    test = dataset.test
    assert test is not None
    rows = attack.evaluated(test.labels).nonzero().flatten()
    rows = rows[torch.randperm(len(rows), generator=run.generator("picture"))[:PICTURED]]
    shown = test.subset(rows)
    triggered = attack.apply(shown.pixels[torch.arange(len(rows))], rows, "test")
    return Demonstration(victim, dict(zip(ERASERS, made)), shown, triggered, run)
