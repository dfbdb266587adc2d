"""Nothing in a defense may see the trigger, triggered images or the test set (G16)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nad.defenses import DEFENSES
from nad.detection import DETECTORS
from nad.models.create import create


def clean_room(folder: Path, leak: str = "") -> subprocess.CompletedProcess:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (64, 3, 16, 16), dtype=np.uint8)
    np.savez(folder / "clean.npz", images=images, labels=np.arange(64) % 4)
    torch.save(create("wrn-10-1", 4).state_dict(), folder / "model.pt")
    script = Path(__file__).with_name("clean_room.py")
    command = [sys.executable, str(script), "clean.npz", "model.pt", *([leak] if leak else [])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)


def test_every_defense_and_detector_runs_with_attacks_and_evaluation_walled_off(tmp_path):
    done = clean_room(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == [f"ran {name}" for name in (*DEFENSES, *DETECTORS)]


@pytest.mark.parametrize(
    ("leak", "message"), [("import", "tried to import nad.attacks"), ("card", "no attribute 'card'")]
)
def test_a_defense_that_leaks_is_caught(tmp_path, leak, message):
    done = clean_room(tmp_path, leak)
    assert done.returncode != 0
    assert message in done.stderr
