"""Students and where their teachers come from."""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, TypeVar

from torch import nn

from nad.data.images import ImageSet
from nad.defenses.base import Defense, Outcome
from nad.defenses.choosing import SMALL
from nad.defenses.distillation import same_architecture
from nad.defenses.finetune import Finetune
from nad.defenses.scratch import Scratch
from nad.defenses.trained import Sharpened, Trained
from nad.errors import NadError
from nad.models.checkpoints import load
from nad.registry import option
from nad.runtime import Run

Method = TypeVar("Method", bound=Defense)
GENTLE = 0.01  # the student's learning rate beside a teacher that has none


@dataclass(frozen=True, kw_only=True)
class Taught(Sharpened):
    """A defense that trains the network as the student of a teacher, which another defense makes of it."""

    teachers: ClassVar[tuple[str, ...]] = ("teacher",)  # the options that name one

    teacher: Literal["given"] | Defense = option(
        Finetune(), "the defense that makes the teacher; given is the network as it came"
    )
    teacher_checkpoint: str | None = option(None, "a file with the teacher instead", local=True)
    teacher_model: str | None = option(None, "the teacher's architecture (with teacher_checkpoint or teacher=scratch)")
    start: Literal["teacher"] | Defense | None = option(
        None, "what makes the network that the student starts as, or teacher, a copy of it; none is the given one"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_model and not (self.teacher_checkpoint or isinstance(self.teacher, Scratch)):
            raise NadError(f"{self.spec_name}: teacher_model needs teacher_checkpoint=FILE or teacher=scratch")

    def configuration(self) -> dict[str, Any]:
        """With what the teacher takes from its student said."""
        resolved = as_run(self)
        return super().configuration() if resolved == self else resolved.configuration()

    def taught(self, model: nn.Module, images: ImageSet, run: Run) -> Outcome:
        """The teacher, made from `model` and `images` or loaded."""
        if self.teacher_checkpoint:
            return Outcome(load(self.teacher_checkpoint, self.teacher_model, len(images.classes)).model, self)
        if isinstance(self.teacher, str):
            return Outcome(model, self)
        method = self.teacher
        if isinstance(method, Trained):
            method = method.inheriting(self)
            if method.folds is None and len(images) < SMALL:  # a teacher's choice is worth one part of few images
                method = replace(method, folds=1)
        if isinstance(method, Scratch) and self.teacher_model:
            method = replace(method, model=self.teacher_model)
        return method(model, images, run)  # the run's own seed: the teacher is what the same method gives alone

    def begun(self, given: nn.Module, teacher: nn.Module | None, images: ImageSet, run: Run) -> nn.Module:
        """What the student starts as; not a copy.

        Raises:
            NadError: it is to start as a teacher of another architecture.
        """
        if isinstance(self.start, Defense):
            return self.start(given, images, run).model
        if self.start is None or teacher is None:
            return given
        if not same_architecture(given, teacher):
            raise NadError(
                f"{self.spec_name}: start=teacher needs a teacher of the given network's architecture; name another"
            )
        return teacher


def as_run(method: Method) -> Method:
    """`method` with what every teacher in it takes from its student said, so that a record is of what ran."""
    if isinstance(method, Taught):
        own = {name: getattr(method, name) for name in method.teachers}
        said: dict[str, Any] = {name: one.inheriting(method) for name, one in own.items() if isinstance(one, Trained)}
        method = replace(method, **said)
    nested = {f.name: as_run(one) for f in fields(method) if isinstance(one := getattr(method, f.name), Defense)}
    return replace(method, **nested)


def gentler(teacher: Defense | None) -> float:
    """The student's rate: a fifth of the teacher's, so that the teaching erases and the rate keeps what was learnt."""
    lr = getattr(teacher, "lr", None)
    return lr / 5 if isinstance(lr, float) else GENTLE
