"""Grids of work: TOML in, one folder a cell out, resumable."""

from nad.bench.grid import Cell, grids, read
from nad.bench.runner import run_grid

__all__ = ["Cell", "grids", "read", "run_grid"]
