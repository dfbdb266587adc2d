"""What tests of the whole command share: the command itself, small images, and a network with a backdoor."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

# Workers take the cores; threads that wait for each other on a busy one make a minute of training five.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

CLASSES = ("go", "left", "right", "stop")  # sorted, as class folders are
ATTACK = "badnets:target=1"


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error without what was found before anything was touched."""
        found = ("good: ", "note: ", "warning: ", "pixels are ", "pictures are ")
        return "".join(line for line in self.err.splitlines(keepends=True) if not line.startswith(found))

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1
        assert self.out.endswith("\n")
        return json.loads(self.out)


Nad = Callable[..., Ran]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before its fixtures are made, so that a test does not go on drawing where the one before it stopped."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep is found by no other run of them, and by no user of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def command(*args: object) -> Ran:
    """`nad` with these arguments in this process; an exception that it lets through is the test's."""
    from nad.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", ["nad", *map(str, args)])
            main()
    except SystemExit as end:
        return Ran(int(end.code or 0), out.getvalue(), err.getvalue())
    return Ran(0, out.getvalue(), err.getvalue())


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 16, 16, 3) noise in which a bright quarter says the class, and the labels."""
    labels = np.arange(count) % len(CLASSES)
    images = np.random.default_rng(seed).integers(0, 100, (count, 2, 8, 2, 8, 3), dtype=np.uint8)
    images[np.arange(count), labels // 2, :, labels % 2] += 120
    return images.reshape(count, 16, 16, 3), labels


@pytest.fixture(scope="session")
def nad() -> Nad:
    """Run the command: `nad("train", "--data", folder, ...)`."""
    return command


@pytest.fixture
def brief_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches are sought in every report, for seconds each: briefly, where a test is about something else."""
    monkeypatch.setattr("nad.evidence.EPOCHS", 2)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.npz (256 images) and test.npz (80) of 4 classes at 16x16 pixels."""
    folder = tmp_path_factory.mktemp("images") / "tiny"
    folder.mkdir()
    for split, count, seed in (("train", 256, 1), ("test", 80, 2)):
        images, labels = pictures(count, seed)
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=np.array(CLASSES))
    return folder


@pytest.fixture(scope="session")
def unsplit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders without splits: 4 classes of 25 PNG pictures."""
    folder = tmp_path_factory.mktemp("images") / "unsplit"
    for i, (image, label) in enumerate(zip(*pictures(100, 3))):
        path = folder / CLASSES[label] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="session")
def victim(nad: Nad, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a WRN-10-1 that `nad train` gave a BadNets backdoor; tests only read it."""
    folder = tmp_path_factory.mktemp("networks") / "victim"
    how = ("--model", "wrn-10-1", "--attack", ATTACK, "--regime", "paper", "--epochs", 12)
    ran = nad("train", "--data", tiny, *how, "--out", folder)
    assert ran.code == 0, ran.err
    return folder
