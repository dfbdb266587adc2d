"""Speed and memory of this library beside a plain PyTorch loop, as ratios from one run.

Run `python benchmarks/speed.py --help`; what is compared with what is in README.md.
"""

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from nad.data import sources
from nad.data.images import ImageSet
from nad.defenses.distillation import Lesson, find_taps
from nad.extras import torchvision
from nad.models.create import create
from nad.runtime import Precision, Run, keep_memory, versions
from nad.training import Recipe, fit

ARCHITECTURE = "wrn-16-1"
BETAS = (500.0, 1000.0, 1000.0)
TAPPED = ("block1", "block2", "block3")
METHOD = "nad:teacher=(finetune:lr=0.1),lr=0.01,beta=500/1000/1000,loss=mse"
CLEAN = 2500
WORKERS = (0, 2)
NAD_RECIPE = Recipe(epochs=2, lr=0.01, schedule="constant", batch=64, augment=("crop", "flip"))
TRAINING_RECIPE = Recipe(epochs=2, lr=0.05, schedule="constant", batch=128, augment=("crop", "flip"))
AGREEMENT_RECIPE = Recipe(epochs=4, lr=0.01, schedule="constant", batch=64, shuffle="once")
CASES = ("NAD step", "training epoch")
STEPS = 39  # an epoch of 2,500 images at batch 64
AGREEMENT_STEPS = 5

# Linux counts the memory of whoever forks into the peak of the child, so a small process stands between.
LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"code": code, "seconds": seconds, "peak_gib": peak / 2**30}))
"""

Step = Callable[[nn.Module, Tensor, Tensor], Tensor]
Timed = Callable[[], float]  # does one epoch's work and gives the seconds of it


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the plain loop: median, lowest and highest of the rounds."""

    what: str
    precision: str
    median: float
    low: float
    high: float
    rounds: int
    plain_ms: float
    library_ms: float
    workers: int
    loss_gap: float


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images the usual way: from array to PIL image, transformed one by one."""

    def __init__(self, images: ImageSet, augment: bool) -> None:
        transforms = torchvision("transforms")
        self.pixels = np.ascontiguousarray(images.pixels[torch.arange(len(images))].permute(0, 2, 3, 1).numpy())
        self.labels = images.labels.tolist()
        random = [transforms.RandomCrop(images.size, padding=images.size[0] // 8), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*(random if augment else ()), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def plain_epochs(model: nn.Module, step: Step, loader: Iterable[Any], how: Recipe) -> list[dict[str, float]]:
    """Train `model` with a plain loop; loss and seconds of each epoch."""
    optimizer = torch.optim.SGD(
        model.parameters(), how.lr, momentum=how.momentum, weight_decay=how.weight_decay, nesterov=how.nesterov
    )
    model.train()
    history = []
    for _ in range(how.epochs):
        began, total, count = time.perf_counter(), 0.0, 0
        for x, y in loader:
            loss = step(model, x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(y), count + len(y)
        history.append({"loss": total / count, "seconds": time.perf_counter() - began})
    return history


def plain_cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def plain_nad(student: nn.Module, teacher: nn.Module) -> Step:
    """The step of NAD with hooks on both networks, as the released code computes it."""
    mine: dict[str, Tensor] = {}
    theirs: dict[str, Tensor] = {}
    for net, kept in ((student, mine), (teacher, theirs)):
        for name in TAPPED:
            net.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, kept=kept, name=name: kept.update({name: output})
            )
    teacher.eval()

    def attention(features: Tensor) -> Tensor:
        return F.normalize(features.pow(2).mean(1).flatten(1))

    def step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            teacher(x)
        loss = F.cross_entropy(model(x), y)
        for beta, name in zip(BETAS, TAPPED):
            loss = loss + beta * (attention(mine[name]) - attention(theirs[name])).pow(2).mean()
        return loss

    return step


@dataclass(frozen=True)
class Case:
    """One thing both sides do, each from fresh copies of the same weights."""

    what: str
    how: Recipe
    plain: Callable[[Iterable[Any], Recipe], list[dict[str, float]]]
    library: Callable[[ImageSet, Recipe, Run], list[dict[str, Any]]]


def cases(images: ImageSet) -> list[Case]:
    """The NAD step and the training epoch, from a student and a teacher that have seen the images."""
    run = Run(device="cpu", precision="fp32")
    student = create(ARCHITECTURE, len(images.classes))
    fit(student, images, TRAINING_RECIPE, run)
    teacher = copy.deepcopy(student)
    fit(teacher, images, TRAINING_RECIPE, run)
    for net in (student, teacher):
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    taps = find_taps(student, teacher, images, run, "sum", 2.0, weights=BETAS)

    def plain_distilling(loader: Iterable[Any], how: Recipe) -> list[dict[str, float]]:
        net = copy.deepcopy(student)
        return plain_epochs(net, plain_nad(net, copy.deepcopy(teacher)), loader, how)

    def distilling(data: ImageSet, how: Recipe, run: Run) -> list[dict[str, Any]]:
        net = copy.deepcopy(student)
        with Lesson(copy.deepcopy(teacher), taps, tuple(BETAS), form="mse").step(net, run) as step:
            return fit(net, data, how, run, step)

    def plain_training(loader: Iterable[Any], how: Recipe) -> list[dict[str, float]]:
        return plain_epochs(copy.deepcopy(student), plain_cross_entropy, loader, how)

    def training(data: ImageSet, how: Recipe, run: Run) -> list[dict[str, Any]]:
        return fit(copy.deepcopy(student), data, how, run)

    return [
        Case(CASES[0], NAD_RECIPE, plain_distilling, distilling),
        Case(CASES[1], TRAINING_RECIPE, plain_training, training),
    ]


class Side:
    """One side of a case in a process of its own.

    Both sides run as a user's program would: the library's as the `nad` command does, and neither in memory that the
    other has left behind. `gap` is 0 for the plain loop, and `epoch` does one epoch's work and gives its seconds.
    """

    here: "Side"  # in the process

    def __init__(self, number: int, name: str, source: str) -> None:
        plain = name.startswith("plain")
        if not plain:
            keep_memory()
        images = sources.load(source).train.subset(torch.arange(STEPS * TRAINING_RECIPE.batch)).decoded()
        case = cases(images)[number]
        some = images.subset(torch.arange(STEPS * case.how.batch))
        self.gap = 0.0
        if plain:
            workers = int(name.split()[1])
            forked = "fork" if workers else None  # the default on Linux, but not in a process that was spawned
            loader = DataLoader(
                Pictures(some, True), case.how.batch, shuffle=True, num_workers=workers, multiprocessing_context=forked
            )
            self.epoch: Timed = lambda: case.plain(loader, case.how)[-1]["seconds"]
        else:
            run = Run(device="cpu", precision=cast(Precision, name))
            self.gap = loss_gap(case, images, run)
            self.epoch = lambda: case.library(some, case.how, run)[-1]["seconds"]

    @classmethod
    def prepare(cls, *made_of: Any) -> None:
        cls.here = cls(*made_of)


def _gap() -> float:
    return Side.here.gap


def _epoch() -> float:
    return Side.here.epoch()


def loss_gap(case: Case, images: ImageSet, run: Run) -> float:
    """The largest relative difference of the losses of 20 steps over the same batches, without augmentation."""
    how = Recipe(**(asdict(AGREEMENT_RECIPE) | {"batch": case.how.batch}))
    some = images.subset(torch.arange(AGREEMENT_STEPS * how.batch))
    order = torch.randperm(len(some), generator=run.generator("order")).tolist()  # the order that `fit` draws
    plain = case.plain(DataLoader(Pictures(some, False), how.batch, sampler=order), how)
    ours = case.library(some, how, run)
    return max(abs(b["loss"] / a["loss"] - 1) for a, b in zip(plain, ours))


def compare(number: int, source: str, budget: float) -> list[Ratio]:
    """Time all sides in turn until the budget is spent; the plain loop counts with its better number of workers."""
    precisions = list(dict.fromkeys([Run(device="cpu").resolved_precision, "fp32"]))
    names = [*(f"plain {w}" for w in WORKERS), *precisions]
    with ExitStack() as stack:
        processes = {}
        gaps = {}
        for name in names:
            made = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=Side.prepare, initargs=(number, name, source)
            )
            processes[name] = stack.enter_context(made)
            gaps[name] = made.submit(_gap).result()  # waits, so that nothing else runs while one is timed
        sides = {name: lambda made=made: made.submit(_epoch).result() for name, made in processes.items()}
        rounds = alternate(sides, budget)
    best = min(WORKERS, key=lambda w: statistics.median(r[f"plain {w}"] for r in rounds))
    ratios = []
    for name in precisions:
        times = [r[f"plain {best}"] / r[name] for r in rounds]
        usual, ours = (1000 / STEPS * statistics.median(r[side] for r in rounds) for side in (f"plain {best}", name))
        ratios.append(
            Ratio(
                what=CASES[number],
                precision=name,
                median=statistics.median(times),
                low=min(times),
                high=max(times),
                rounds=len(times),
                plain_ms=usual,
                library_ms=ours,
                workers=best,
                loss_gap=gaps[name],
            )
        )
    return ratios


def alternate(sides: dict[str, Timed], budget: float) -> list[dict[str, float]]:
    """Seconds of each side a round, at least three rounds; every other round in reverse, so that drift cancels."""
    rounds: list[dict[str, float]] = []
    began = time.perf_counter()
    while len(rounds) < 3 or time.perf_counter() - began < budget:
        names = list(sides) if len(rounds) % 2 == 0 else list(reversed(sides))
        rounds.append({name: sides[name]() for name in names})
    return rounds


def write_noise(folder: Path) -> None:
    """Random images of CIFAR-10's size, number and classes: they cost what real ones cost."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 50_000), ("test", 10_000)):
        pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{split}.npz", images=pixels, labels=np.arange(count) % 10)


def purify(data: str, victim: nn.Module, count: int, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of `nad purify` as a whole process, images and checkpoint read from disk."""
    torch.save(victim.state_dict(), folder / "victim.pt")
    command = [sys.executable, "-m", "nad", "purify", str(folder / "victim.pt"), "--model", ARCHITECTURE]
    command += ["--data", data, "--out", str(folder / "purified"), "--method", METHOD, "--attack", "badnets"]
    command += ["--clean", str(CLEAN / count), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *command], stdout=subprocess.PIPE, check=True)
    measured = json.loads(done.stdout)
    if measured.pop("code"):
        sys.exit("nad purify failed")
    return measured


def show(ratios: list[Ratio], purified: dict[str, float]) -> None:
    """Print the table."""
    columns = "", "precision", "ratio", "range", "rounds", "plain", "nad", "loss gap"
    table = Table(*columns)
    for r in ratios:
        plain, ours = f"{r.plain_ms:.0f} ms ({r.workers}w)", f"{r.library_ms:.0f} ms"
        spread = f"{r.low:.2f}-{r.high:.2f}"
        table.add_row(r.what, r.precision, f"{r.median:.2f}", spread, str(r.rounds), plain, ours, f"{r.loss_gap:.2%}")
    console = Console()
    console.print(table)
    console.print("ratio: how many times as fast as the plain loop; ms a step; w: workers of its DataLoader")
    console.print(f"nad purify, whole process: {purified['seconds']:.1f} s, {purified['peak_gib']:.2f} GiB at its peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="CIFAR-10 in any layout that nad reads; random images of its size otherwise")
    parser.add_argument("--seconds", type=float, default=60, help="to spend on each of the two comparisons")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, source = Path(temporary), given.data
        if source is None:
            source = str(folder)
            write_noise(folder)
        train = sources.load(source).train
        images = train.subset(torch.arange(STEPS * TRAINING_RECIPE.batch)).decoded()
        victim = create(ARCHITECTURE, len(images.classes))
        fit(victim, images, TRAINING_RECIPE, Run(device="cpu"))
        purified = purify(source, victim, len(train), folder)
        ratios = [ratio for number in range(len(CASES)) for ratio in compare(number, source, given.seconds)]
    show(ratios, purified)
    if given.json:
        machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "versions": versions()}
        record = {"ratios": [asdict(r) for r in ratios], "purify": purified, "machine": machine}
        given.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
