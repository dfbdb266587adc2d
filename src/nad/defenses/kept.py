"""Purified networks kept on disk, so that a teacher which is a method of its own is made once for all that use it."""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nad.data.images import ImageSet
from nad.defenses.outcome import Outcome
from nad.errors import NadError
from nad.models.checkpoints import read_state, weights_fingerprint, write_state
from nad.models.normalize import described
from nad.results import read_json, write_json
from nad.runtime import Run

if TYPE_CHECKING:
    from nad.defenses.base import Defense

FORMAT = 1  # raised when what is kept, or what it depends on, is another


def made_once(method: "Defense", model: nn.Module, images: ImageSet, run: Run, make: Callable[[], Outcome]) -> Outcome:
    """What `make` gives, or what it gave before for the same network, images, method, seed and precision.

    Kept below `run.keep`; nothing is where that is None, or where the method names a file or a callable. What is
    damaged is made again, and a folder that cannot be written costs the time, no more. `run.spared` hears of the
    seconds.
    """
    if run.keep is None or not method.speaks_for_itself:
        return make()
    place = run.keep / "purified" / _fingerprint(method, model, images, run)[:32]
    with contextlib.suppress(NadError, KeyError, TypeError, AttributeError, OSError):
        return _read(method, model, place, run)
    began, spared = time.perf_counter(), len(run.spared)
    outcome = make()
    seconds = time.perf_counter() - began + sum(run.spared[spared:])
    with contextlib.suppress(NadError, OSError):
        _write(outcome, model, place, seconds)
    return outcome


def _fingerprint(method: "Defense", model: nn.Module, images: ImageSet, run: Run) -> str:
    made_of = {
        "format": FORMAT,
        "network": [*described(model), weights_fingerprint(model)],
        "images": images.fingerprint,
        "method": method.configuration(),
        "run": run.describe(),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=list).encode()).hexdigest()


def _read(method: "Defense", model: nn.Module, place: Path, run: Run) -> Outcome:
    began = time.perf_counter()
    record = read_json(place / "outcome.json")
    network = read_state(place / "model.safetensors", copy.deepcopy(model).eval(), record["sha256"])
    found = type(method).parse(record["method"], trusted=False)
    run.spared.append(record["seconds"] - (time.perf_counter() - began))
    return Outcome(network, found, record["history"], record["notes"])


def _write(outcome: Outcome, model: nn.Module, place: Path, seconds: float) -> None:
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    if {key: value.shape for key, value in outcome.model.state_dict().items()} != shapes:
        return  # another architecture, which the given network cannot stand in for
    if not outcome.method.speaks_for_itself:
        return
    place.mkdir(parents=True, exist_ok=True)
    digest = write_state(place / "model.safetensors", outcome.model)
    record = {"sha256": digest, "method": outcome.method.explicit(), "seconds": seconds}
    write_json(place / "outcome.json", record | {"history": outcome.history, "notes": outcome.notes})
