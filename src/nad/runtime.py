"""Where and how a computation runs: seed, device, precision and who hears of its progress."""

import ctypes
import logging
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from nad.errors import NadError, printable
from nad.seeding import derive, generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
Progress = Callable[[str, int, int, str], None]  # what, done, total, a few numbers in words


def silent(what: str, done: int, total: int, note: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Run:
    """How to run.

    Args:
        seed: drives everything random through named generators.
        device: `auto` takes CUDA, then MPS, then the CPU.
        precision: `auto` takes bf16 only where the hardware multiplies in it; see `suiting`.
        progress: called as work proceeds.
        keep: folder of purified networks and of evaluations that are made once and used again; none where nothing is
            said.
        spared: seconds that such networks took when they were made, each time one is used again.
        suited: the precision of each run that `suiting` made of this one.
        devices: how many a plain training is spread over.
        within: what this process computes with where it is one of several.
        alone: whether nothing else is meant to be computed here meanwhile.
    """

    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    progress: Progress = silent
    keep: Path | None = None
    spared: list[float] = field(default_factory=list, compare=False, repr=False)
    suited: list[str] = field(default_factory=list, compare=False, repr=False)
    devices: int = 1
    within: "Fabric | None" = field(default=None, compare=False, repr=False)
    alone: bool = True

    def __post_init__(self) -> None:
        for what, said, kinds in (("device", self.device, Device), ("precision", self.precision, Precision)):
            if said not in get_args(kinds):
                raise NadError(f"expected {what} to be one of {', '.join(get_args(kinds))}, got {printable(said)!r}")

    def generator(self, name: str) -> torch.Generator:
        """The CPU generator of the stream called `name` under this seed."""
        return generator(self.seed, name)

    def child(self, name: str) -> "Run":
        """The same run with a seed of its own: what happens inside cannot change what happens outside."""
        return replace(self, seed=derive(self.seed, name))

    @cached_property
    def torch_device(self) -> torch.device:
        if self.within:
            return self.within.device
        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device == "auto":
            return torch.device(next(name for name, there in found.items() if there))
        if not found[self.device]:
            raise NadError(f"--device {self.device}: this machine (or this build of torch) has none; use --device auto")
        return torch.device(self.device)

    @cached_property
    def resolved_precision(self) -> Literal["fp32", "bf16"]:
        if self.precision != "auto":
            return self.precision
        return "bf16" if _multiplies_in_bf16(self.torch_device) else "fp32"

    def suiting(self, model: nn.Module) -> "Run":
        """This run, but in fp32 where `auto` leads to bf16 on a CPU and the network convolves each channel alone.

        The gradient of such a convolution takes five times as long in bf16: a step of a MobileNet nearly three times,
        though one of a ConvNeXt, which is dense besides, a fifth less (benchmarks/README.md).
        """
        slower = self.precision == "auto" and self.torch_device.type == "cpu" and self.resolved_precision == "bf16"
        depthwise = any(isinstance(one, nn.Conv2d) and 1 < one.groups == one.in_channels for one in model.modules())
        if self.within or not (slower and depthwise):
            return self
        self.suited.append("fp32")
        return replace(self, precision="fp32")

    @cached_property
    def fabric(self) -> "Fabric":
        if self.within:
            return self.within
        logging.getLogger("lightning.fabric.utilities.rank_zero").setLevel(logging.WARNING)
        logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
        from lightning_fabric import Fabric  # as long as torch itself to import, and not needed to say what is wrong

        return Fabric(accelerator=self.torch_device.type, devices=1, precision=self.fabric_precision)

    @property
    def fabric_precision(self) -> Literal["bf16-mixed", "32-true"]:
        return "bf16-mixed" if self.resolved_precision == "bf16" else "32-true"

    @contextmanager
    def seeded(self, name: str) -> Iterator[None]:
        """torch's global generators seeded from the stream called `name` inside, and as they were after."""
        devices = [torch.cuda.current_device()] if self.torch_device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive(self.seed, name))
            yield

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, in this run's precision."""
        with torch.no_grad(), self.fabric.autocast():
            yield

    def describe(self) -> dict[str, object]:
        """What a result records."""
        return {"seed": self.seed, "device": self.torch_device.type, "precision": self.resolved_precision}


def in_words(seconds: float) -> str:
    """Such as `3 h 20 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def keep_memory() -> None:
    """Let glibc keep freed memory for the process: nothing where the C library is another.

    By default every training step gives its activations back to the kernel and faults them in again, zeroed, which
    costs about a tenth of the step on a CPU (benchmarks/). Programs call it once; importing the library never does.
    """
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        for parameter, size in ((-1, 1 << 30), (-3, 32 << 20)):  # M_TRIM_THRESHOLD; M_MMAP_THRESHOLD, at most 32 MiB
            libc.mallopt(parameter, size)


def _multiplies_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        cpu = torch.cpu
        return any(
            getattr(cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


def versions() -> dict[str, str]:
    """Of this library and what its numbers depend on, and the kind of machine."""
    names = ["nad", "torch", "torchvision", "numpy", "pillow", "safetensors"]
    names += [name for name in ("timm", "transformers") if name in sys.modules]
    machine = {"python": platform.python_version(), "processor": _processor()}
    machine |= {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return machine | {name: metadata.version(name) for name in names}


@cache
def _processor() -> str:
    """Its model, where the system says one."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()
