"""Throw changed files at the readers of checkpoints and pictures, and keep what they cannot take.

    python tests/fuzz/run.py --minutes 20 --seed 0

A finding is anything but success or a NadError, over 10 seconds, over 1 GB more memory, a crash, or code that ran.
Each is made smaller and saved in --out; so is, beside them, one small input for each way in which a file was refused.
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from mutations import mutated
from targets import SEEDS, attempt, prepare

SECONDS, MEMORY = 10, 1 << 30
PATIENCE = 60  # seconds until a reader is given up
SLOW = ("FINDING: slow", "FINDING: hang")
FORK = multiprocessing.get_context("fork")
Input = tuple[str, bytes]


def judged(target: str, suffix: str, data: bytes) -> str:
    """The outcome in this process, with time and memory judged."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    outcome = attempt(target, suffix, data)
    if time.perf_counter() - began > SECONDS:
        return "FINDING: slow"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return "FINDING: memory" if grown > MEMORY else outcome


def work(target: str, pipe: Connection) -> None:
    """Answer every input with its outcome, in a process that may come to harm."""
    with tempfile.TemporaryDirectory() as folder:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders written in C say there what they think of a picture
        prepare(Path(folder))
        while (given := pipe.recv()) is not None:
            pipe.send(judged(target, *given))


class Worker:
    """A process that tries inputs, and is replaced when one was too much for it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.start()

    def start(self) -> None:
        self.pipe, there = FORK.Pipe()
        self.process = FORK.Process(target=work, args=(self.target, there), daemon=True)
        self.process.start()
        there.close()

    def __call__(self, given: Input) -> str:
        try:
            self.pipe.send(given)
            outcome = self.pipe.recv() if self.pipe.poll(PATIENCE) else "FINDING: hang"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            outcome = f"FINDING: the process died ({self.process.exitcode})"
        if outcome.startswith("FINDING"):
            self.stop()
            self.start()
        return outcome

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def smaller(worker: Worker, given: Input, outcome: str, seconds: float = 120) -> Input:
    """An input with the same outcome from which no piece can be left out."""
    suffix, data = given
    size, until = len(data) // 2, time.monotonic() + seconds
    while size and time.monotonic() < until:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if worker((suffix, shorter)) == outcome:
                data = shorter
            else:
                at += size
        size //= 2
    return suffix, data


def inputs(target: str, seed: int, pool: list[Input]) -> Iterator[Input]:
    """The seeds, then changes of what is in the pool."""
    yield from SEEDS[target]()
    rng = Random(seed)
    while True:
        suffix, data = rng.choice(pool)
        yield suffix, mutated(rng, suffix, data, pool)


def kept(folder: Path, given: Input) -> Path:
    """Save an input under a name that its content gives."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(given[1]).hexdigest()[:12]}{given[0]}"
    path.write_bytes(given[1])
    return path


def fuzz(target: str, minutes: float, seed: int, out: Path) -> int:
    """Fuzz one reader; the number of findings."""
    worker, pool = Worker(target), list(SEEDS[target]())
    seen: dict[tuple[str, str], Input] = {}
    rng, began, count = Random(seed), time.monotonic(), 0
    for given in inputs(target, seed, pool):
        if time.monotonic() - began > 60 * minutes:
            break
        outcome, count = worker(given), count + 1
        if outcome in SLOW:  # perhaps because the machine was busy
            outcome = worker(given)
        way = outcome, given[0]
        if way not in seen or (outcome == "good" and rng.random() < 0.01):
            pool.append(given)
        if way not in seen:
            seen[way] = given
            if outcome.startswith("FINDING"):
                path = kept(out / target / "findings", smaller(worker, given, outcome))
                print(f"{target}: {outcome} -> {path}", flush=True)
        elif len(given[1]) < len(seen[way][1]):
            seen[way] = given
    worker.stop()
    for (outcome, _), given in seen.items():
        if not outcome.startswith("FINDING"):
            kept(out / target / "ways", given)
    findings = sum(outcome.startswith("FINDING") for outcome, _ in seen)
    passed = time.monotonic() - began
    print(f"{target}: {count:,} executions in {passed / 60:.1f} minutes, {len(seen)} ways, {findings} findings")
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=sorted(SEEDS), action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = [fuzz(target, given.minutes, given.seed, given.out.resolve()) for target in given.target or sorted(SEEDS)]
    raise SystemExit(1 if sum(found) else 0)


if __name__ == "__main__":
    main()
