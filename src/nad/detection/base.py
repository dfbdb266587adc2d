"""What every detector is: a network and clean images in, scores out. It changes nothing."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nad.admission import admitted
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.registry import Method, Registry
from nad.runtime import Run

DETECTORS: "Registry[Detector]" = Registry("detector")


@dataclass(frozen=True)
class Scores:
    """What a detector says.

    Args:
        summary: a few numbers of the network as a whole, by names that each detector's own source explains.
        rows: one record a class, or one an input, with the same keys in all of them.
        of: what a row is of.
    """

    summary: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    of: str = "class"

    def to_json(self) -> dict[str, Any]:
        return {"summary": self.summary, "of": self.of, "rows": self.rows}


@dataclass(frozen=True, kw_only=True)
class Detector(Method):
    """Base of the detectors. A method writes `scores`. It cannot see a trigger, no more than a defense can."""

    registry: ClassVar = DETECTORS
    takes_inputs: ClassVar[bool] = False  # whether it judges inputs rather than the network

    def __call__(
        self, model: nn.Module, images: ImageSet, run: Run | None = None, inputs: ImageSet | None = None
    ) -> Scores:
        """Score.

        Args:
            model: takes fp32 (N, 3, H, W) pixels in [0, 1], gives (N, classes) logits; left bit-identical.
            images: clean images with their labels; every class must be there.
            inputs: images to judge, of the same size, whose labels are not looked at.

        Raises:
            NadError: images that the network was not made for, or inputs given to a detector that takes none.
        """
        run = (run or Run()).suiting(model)
        images = admitted(model, images, self.spec_name)
        if (inputs is not None) != self.takes_inputs:
            raise NadError(
                f"{self.spec_name} judges inputs; give some, --inputs FOLDER"
                if self.takes_inputs
                else f"{self.spec_name} judges the network and takes no --inputs"
            )
        if inputs is not None and inputs.size != images.size:
            (h, w), (high, wide) = inputs.size, images.size
            raise NadError(f"the inputs are {h}x{w} pixels and the clean images {high}x{wide}; they must be equal")
        return self.scores(model, images, run, inputs.decoded().plain() if inputs is not None else None)

    def scores(self, model: nn.Module, images: ImageSet, run: Run, inputs: ImageSet | None) -> Scores:
        """What a method writes and `__call__` calls, after its checks; must leave `model` as it was.

        Args:
            images: clean images in memory, of every class of the network.
            inputs: images to judge where `takes_inputs` says so, else None.
        """
        raise NotImplementedError
