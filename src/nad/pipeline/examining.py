"""A network before and after, as somebody sees it who does not know the trigger."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nad import evidence
from nad.data.labelling import RISK, Labelling
from nad.defenses.base import working_copy
from nad.defenses.distillation import find_taps
from nad.errors import NadError
from nad.inversion import Ground, Look, Triggers, screened
from nad.models.stages import Stage, find_stages
from nad.pictures import attention_figure, patch_figure, png
from nad.pipeline.intake import Intake, intake
from nad.pipeline.parts import Parts
from nad.runtime import Run
from nad.training import predictions
from nad.verdict import COMPARED

BUDGET = 10.0  # minutes for evidence, where nothing is said
PICTURED = 4  # pictures whose attention is drawn
PATCHES = 6  # classes whose smallest patch is drawn
DESCRIBED = {
    "attention.png": {
        "title": "Attention of the same pictures before and after, at each stage",
        "alt": "Attention maps of a few pictures, before and after",
    },
    "triggers.png": {
        "title": "The smallest patch that sends pictures to a class, of the classes with the smallest",
        "alt": "Inverted patches of the classes with the smallest, before and after",
    },
}
LIMITS = (
    "Accuracy on clean pictures says nothing about a backdoor: a backdoored network has it too.",
    "Evidence without the trigger can show that a shortcut to a class is gone. It cannot show that none is left: a "
    "trigger that fills the picture, or one for a few pictures only, may be found by none of these measures.",
    "The pictures are taken to be clean. A triggered one among them would teach the network its backdoor again.",
)


@dataclass(frozen=True, eq=False)
class Examination:
    """What a network gives away, found once, and compared with what is left after a method.

    Args:
        given: the network as it came. parts: clean images that evidence is sought on, and others to report on.
        budget: minutes that the evidence may take, about; what it does not suffice for is left out and said.
        named: layers whose attention is compared; found by probing where none is said.
        labelling: how the labels came from the network, if they did.
        networks: how many the evidence is sought in, the given one among them; the budget is for all.
        remarks: on how the images are used.
    """

    given: nn.Module
    parts: Parts
    run: Run
    budget: float
    named: tuple[str, ...] = ()
    labelling: Labelling | None = None
    networks: int = 2
    remarks: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.budget >= 0:
            raise NadError(f"expected --budget of at least 0 minutes, got {self.budget:g}")
        if self.named:
            self.stages  # noqa: B018  what is wrong with them is said before anything is done

    @cached_property
    def intake(self) -> Intake:
        own = self.labelling is not None
        found = intake(self.given, self.parts.train, self.run, own, self.parts.test)
        return found.noting(*found.handed, *self.remarks)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Where attention is compared; nowhere in a network without feature maps.

        Raises:
            NadError: a named layer that is none, gives no map, or carries no signal.
        """
        if self.named:
            model = working_copy(self.given)
            return find_taps(model, model, self.parts.train, self.run, "sum", 2.0, self.named).student
        first = self.parts.train.pixels[torch.arange(1)].to(self.run.torch_device).float() / 255
        try:
            return find_stages(self.given.to(self.run.torch_device), first)
        except NadError:
            return ()

    @cached_property
    def ground(self) -> Ground:
        several = self.networks > 2  # one of the methods is marked then, a choice that no reported picture may make
        return Ground.of(self.parts.train, self.run, apart=None if several else self.parts.test)

    @cached_property
    def look(self) -> Look:
        """The network as it came; the same classes of each purified one will take as long again."""
        return screened(self.given, self.ground, self.run, seconds=60 * self.budget / self.networks)

    @cached_property
    def inverted(self) -> tuple[list[int], Triggers | None]:
        """The most suspicious classes, as many as there is time for, and their smallest patches."""
        screening = self.look.seconds * len(self.look.suspicious) * evidence.SCREENING * self.networks
        left = max(0.0, evidence.SURE * (60 * self.budget - screening))
        classes = self.look.suspicious[
            : evidence.affordable(self.look, len(self.parts.train.classes), left, self.networks)
        ]
        return classes, evidence.inverted(self.given, self.ground, classes, self.run) if classes else None

    @cached_property
    def answers(self) -> Tensor:
        """The given network's answers to the reported images."""
        return predictions(self.given, self.parts.test, self.run)

    def of(self, purified: nn.Module, answers: Tensor) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What is said of both networks, as JSON values, and the pictures by file name.

        Args:
            answers: int64 (N,), the purified network's to the reported images.
        """
        said: dict[str, Any] = {
            "intake": self.intake.to_json() | self._named(),
            "reported": self._reported(answers),
            "answered": {"before": self._counts(self.answers), "after": self._counts(answers)},
            "stages": [stage.name for stage in self.stages],
        }
        pictures = {}
        if self.stages:
            pictures["attention.png"] = self._attention(purified)
        if self.budget:
            found, patches = self._evidence(purified)
            said, pictures = said | found, pictures | patches
        shown = [{"file": name} | DESCRIBED[name] for name in pictures]
        if self.labelling:
            said |= {"labels": self.labelling.to_json()}
        limits = [*self._skipped(), *([RISK] if self.labelling else []), *LIMITS]
        return said | {"pictures": shown, "limits": limits}, pictures

    def _evidence(self, purified: nn.Module) -> tuple[dict[str, Any], dict[str, bytes]]:
        look = screened(purified, self.ground, self.run, classes=self.look.suspicious)
        classes, before = self.inverted
        after = evidence.inverted(purified, self.ground, classes, self.run) if classes else None
        judged = self.ground.judged
        said = {
            "classes": self._classes(look, before, after),
            "references": evidence.REFERENCES,
            "rms": look.rms,
            "sought_on": len(self.ground.sought),
            "patches_on": min(len(self.ground.sought), evidence.SHOWN),
            "judged_on": len(judged),
            "judged_apart": self.ground.apart,
            "shift": evidence.attention_moved(self.given, purified, self.stages, judged, self.run),
            "weights": evidence.weights_moved(self.given, purified),
        }
        if not (before and after):
            return said, {}
        names = {label: judged.classes[label] for label in evidence.smallest(classes, before, after)[:PATCHES]}
        return said, {"triggers.png": png(lambda file: patch_figure({"before": before, "after": after}, names, file))}

    def _attention(self, purified: nn.Module) -> bytes:
        test = self.parts.test
        rows = torch.randperm(len(test), generator=self.run.generator("picture"))[:PICTURED]
        networks = {"before": self.given, "after": purified}
        few = test.subset(rows).decoded()
        return png(lambda file: attention_figure(few, None, networks, file, self.run, self.stages))

    def _named(self) -> dict[str, Any]:
        sizes = {"given": len(self.parts.train) + len(self.parts.test), "reported": len(self.parts.test)}
        return {"classes": list(self.parts.train.classes), "images": sizes}

    def _reported(self, answers: Tensor) -> list[list[int]]:
        """Of each class, the images that nothing was chosen on: right by both, before only, after only, by none."""
        labels, count = self.parts.test.labels.cpu(), len(self.parts.test.classes)
        before, after = self.answers == labels, answers == labels
        kinds = [before & after, before & ~after, ~before & after, ~before & ~after]
        table = torch.stack([torch.bincount(labels[kind], minlength=count) for kind in kinds], 1)
        return [list(map(int, row)) for row in table.tolist()]

    def _counts(self, answers: Tensor) -> list[int]:
        """How many of the reported images get each class as their answer."""
        count = len(self.parts.test.classes)
        return list(map(int, torch.bincount(answers.clamp(max=count - 1), minlength=count).tolist()))

    def _classes(self, look: Look, before: Triggers | None, after: Triggers | None) -> list[dict[str, Any]]:
        asked, _ = self.inverted
        names = self.parts.train.classes
        pairs = zip(evidence.seen(self.look, names, before, asked), evidence.seen(look, names, after, asked))
        return [{"class": one.name, "before": one.measured(), "after": other.measured()} for one, other in pairs]

    def _skipped(self) -> list[str]:
        """What is missing from the evidence, in words."""
        if not self.budget:
            return ["No evidence without the trigger was sought."]
        classes, screened, inverted = len(self.parts.train.classes), len(self.look.suspicious), len(self.inverted[0])
        unseen = classes - screened
        said = [f"Within the budget {unseen} classes were not looked at."] if unseen else []
        said += evidence.unsought(screened, inverted, classes)
        if (unseen or screened > inverted) and inverted < min(COMPARED, classes):
            minutes = evidence.sufficient(self.look, classes, self.networks)
            said.append(f"--budget {minutes} (minutes) would do, about, to look at every class and to compare patches.")
        return said if self.stages else [*said, "The network has no feature maps to compare the attention of."]
