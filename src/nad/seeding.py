"""One seed becomes named random generators, so that drawing more of one thing never changes another."""

import hashlib

import torch


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the stream called `name`; the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """The CPU generator of the stream called `name`.

    Random numbers are always drawn on the CPU and then moved: a GPU run sees the same crops, flips and
    orders as a CPU run.
    """
    return torch.Generator().manual_seed(derive(seed, name))
