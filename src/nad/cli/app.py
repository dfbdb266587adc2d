"""What the commands share: the application, its common options and the folder they write."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from nad import console, pipeline
from nad.data import sources
from nad.data.classes import read_names
from nad.data.decoding import EncodedImages
from nad.data.gallery import unlabelled
from nad.data.sources import Dataset
from nad.errors import NadError, printable
from nad.models.checkpoints import Loaded, load
from nad.results import resolved
from nad.runtime import Device, Precision, Run

app = App(
    name="nad",
    help="Erase backdoors from image classifiers by Neural Attention Distillation.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
flag = Parameter(negative=())
Read = Callable[[str, tuple[int, int] | None], Dataset]


def sets(data: Path | None) -> Path | None:
    """The folder that holds data sets by name: what was asked for, or $NAD_DATA."""
    told = os.environ.get("NAD_DATA")
    return data or (Path(told) if told else None)


@Parameter(name="*")
@dataclass(frozen=True)
class Machine:
    """Options of every command that computes."""

    device: Device = "auto"
    "Where to compute; auto takes CUDA, then MPS, then the CPU."
    precision: Precision = "auto"
    "auto takes bf16 only where the hardware has it, and on a CPU not for networks with depthwise convolutions."
    json: Annotated[bool, flag] = False
    "Print one JSON object and nothing else on standard output."

    @contextmanager
    def run(self, devices: int = 1, dry: bool = False) -> Iterator[Run]:
        if devices < 1:
            raise NadError(f"expected --devices of at least 1, got {devices}")
        if not dry:
            import lightning_fabric  # noqa: F401  here: amid the work Ctrl-C would end Python in another way than by 130

        run = self._run(devices)
        with console.progress(quiet=not sys.stderr.isatty()) as report:
            yield replace(run, progress=report)
        if not (self.json or dry):  # said at the end, so that bad input gets its one or two lines and no other
            console.say(f"computed on {self._told(run)}")

    def _run(self, devices: int) -> Run:
        return Run(0, self.device, self.precision, devices=devices)

    def _told(self, run: Run) -> str:
        return f"{run.torch_device.type} in {run.suited[-1] if run.suited else run.resolved_precision}"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How(Machine):
    """The same, of one that draws."""

    seed: int = 0
    "Drives everything that is random."

    def _run(self, devices: int) -> Run:
        return replace(super()._run(devices), seed=self.seed)

    def _told(self, run: Run) -> str:
        return f"{super()._told(run)}, seed {self.seed}"


@Parameter(name="*")
@dataclass(frozen=True)
class Data:
    """Options that name images."""

    data: Annotated[str, Parameter(name=["--data"])]
    "Name or path of the images; `nad list data` shows both."
    size: str | None = None
    "Resize every picture: N or HxW pixels."

    def load(self, read: Read = sources.load) -> Dataset:
        if self.size is None:
            return read(self.data, None)
        try:
            high, x, wide = self.size.partition("x")
            return read(self.data, (int(high), int(wide if x else high)))
        except ValueError as error:
            if isinstance(error, NadError):
                raise
            raise NadError(f"expected --size N or HxW, got {printable(self.size)!r}") from error

    def load_for(self, size: tuple[int, int] | None, read: Read = sources.load) -> tuple[Dataset, tuple[str, ...]]:
        """The images at the size that a network was made for, unless --size says another; and what to tell of that."""
        if self.size is not None or size is None:
            loaded = self.load(read)
            own = loaded.train.size
            if size is None or own == size:
                return loaded, ()
            return loaded, ("pictures are {}x{}, as --size says, and not {}x{}".format(*own, *size),)
        loaded = read(self.data, size)
        splits = [images.pixels for images in (loaded.train, loaded.test) if images is not None]
        came = {one for pixels in splits if isinstance(pixels, EncodedImages) for one in pixels.came} or {size}
        if came == {size}:
            return loaded, ()
        words = "several sizes" if len(came) > 1 else "{}x{} pixels".format(*came.pop())
        return loaded, (f"pictures of {words} are resized to {size[0]}x{size[1]}, the network's; --size sets another",)


@Parameter(name="*")
@dataclass(frozen=True)
class Network:
    """Options that say of a checkpoint what it does not say itself."""

    model: str | None = None
    "Architecture, where the checkpoint has no card or config.json that says it."
    normalise: str | None = None
    "Of pixels, where what is known is wrong: none, imagenet, cifar10, gtsrb, half or MEAN/MEAN/MEAN,STD/STD/STD."
    output: str | None = None
    "Name or index of the output that counts, where the network gives several."
    classes: Path | None = None
    "Names of the classes in the order of the network's outputs: a file with one a line, or JSON."

    def load(self, checkpoint: Path, data: Data) -> tuple[Loaded, Dataset]:
        """The network and the images, made to fit each other."""
        loaded, names = self._opened(checkpoint)
        dataset, told = data.load_for(loaded.size)
        return pipeline.fitted(replace(loaded, notes=loaded.notes + told), dataset, names)

    def _opened(self, checkpoint: Path) -> tuple[Loaded, tuple[str, ...] | None]:
        names = None if self.classes is None else read_names(self.classes)
        return load(checkpoint, self.model, normalise=self.normalise, output=self.output), names


@Parameter(name="*")
@dataclass(frozen=True)
class Labelled(Network):
    """Options that say of a checkpoint what it does not say itself, and whose labels are taken."""

    labels: Literal["given", "model"] = "given"
    "model ignores what labels there are and takes the network's own confident answers; a flat folder will do."

    def read(self, checkpoint: Path, data: Data, run: Run) -> tuple[Loaded, Dataset]:
        """The network and the images, made to fit each other; the labels are those that were asked for."""
        if self.labels == "given":
            return self.load(checkpoint, data)
        loaded, names = self._opened(checkpoint)
        loaded = pipeline.named(loaded, names)
        classes = names or loaded.names or tuple(map(str, range(loaded.classes)))
        dataset, told = data.load_for(loaded.size, lambda source, size: unlabelled(source, classes, size))
        return pipeline.labelled(replace(loaded, notes=loaded.notes + told), dataset, run)


def apart(out: Path, source: str, what: str) -> None:
    """Refuse a result's folder that is, or holds, what it is made from, or that would become one of its classes."""
    place, folder = resolved(Path(source)), resolved(out)
    if place.exists() and place.is_relative_to(folder):
        raise NadError(f"--out {printable(out)} holds the {what}, which is only ever read; choose another folder")
    if what == "images" and folder.is_relative_to(place) and sources.in_class_folders(place):
        raise NadError(
            f"--out {printable(out)} lies among the images of --data {printable(source)}, where the next run would "
            "take it for a class; choose a folder outside"
        )
