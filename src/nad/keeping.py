"""What is dear to make, kept on disk, so that it is made once for all that ask for it."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from torch import Tensor, nn

from nad.data.downloads import cache_folder
from nad.data.images import ImageSet
from nad.errors import NadError
from nad.models.checkpoints import read_tensors, weights_fingerprint, write_tensors
from nad.models.normalize import described
from nad.results import STALE, read_json, resolved, write_json
from nad.runtime import Run

TENSORS, RECORD = "tensors.safetensors", "record.json"

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Piece:
    """What is written: tensors by name, and what JSON holds."""

    tensors: Mapping[str, Tensor]
    record: Any


def made_once(
    kind: str,
    model: nn.Module,
    images: ImageSet,
    run: Run,
    asked: Mapping[str, Any],
    make: Callable[[], T],
    pack: Callable[[T], Piece | None],
    unpack: Callable[[Piece], T],
) -> T:
    """What `make` gives, or what it gave before for the same network, images, seed, precision and `asked`.

    Kept below `run.keep`; nothing is where that is None. What another process is making is waited for. What is damaged
    is made again, and a folder that cannot be written costs the time, no more. `run.spared` hears of the seconds.

    Args:
        kind: the name of the folder.
        asked: all else that it depends on, as JSON holds it; may replace what is said about the run.
        pack: what is kept of it, or None where it cannot be. unpack: its inverse.
    """
    if run.keep is None:
        return make()
    made_of = {
        "network": [*described(model), weights_fingerprint(model)],
        "images": images.fingerprint,
        "run": run.describe(),
        "torch": torch.__version__,
    }
    content = json.dumps(made_of | dict(asked), sort_keys=True, default=list)
    place = run.keep / kind / hashlib.sha256(content.encode()).hexdigest()[:32]
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(claimed(place))
        began, spared = time.perf_counter(), len(run.spared)
        with contextlib.suppress(NadError, OSError, KeyError, TypeError, AttributeError, RuntimeError):
            kept = read_json(place / RECORD)
            tensors = read_tensors(place / TENSORS, kept["sha256"]) if kept["sha256"] else {}
            found, seconds = unpack(Piece(tensors, kept["record"])), kept["seconds"]
            run.spared.append(seconds - (time.perf_counter() - began))
            return found
        made = make()
        seconds = time.perf_counter() - began + sum(run.spared[spared:])
        piece = pack(made)
        if piece:
            with contextlib.suppress(NadError, OSError):
                place.mkdir(parents=True, exist_ok=True)
                digest = write_tensors(place / TENSORS, piece.tensors) if piece.tensors else None
                write_json(place / RECORD, {"sha256": digest, "seconds": seconds, "record": piece.record})
        return made


@contextlib.contextmanager
def until_done(out: Path) -> Iterator[Path]:
    """A folder of the cache for the pieces of what is to be written to `out`, which goes when that is done.

    Work that is stopped or fails leaves it, so that the same work goes on from there; after a week the next one clears
    it away.
    """
    left = cache_folder() / "unfinished"
    with contextlib.suppress(OSError):
        for old in left.iterdir():
            if time.time() - old.stat().st_mtime > STALE:
                shutil.rmtree(old, ignore_errors=True)
    place = left / hashlib.sha256(str(resolved(out)).encode()).hexdigest()[:32]
    yield place
    shutil.rmtree(place, ignore_errors=True)


def claimed(place: Path, wait: bool = True) -> FileLock:
    """A lock beside `place`, to be entered; it lives no longer than its process.

    Args:
        wait: for another that holds it; otherwise entering raises filelock's Timeout.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{place}.lock", timeout=-1 if wait else 0)
