"""Grids of work: TOML in, a result file a cell out, resumable."""

from nad.bench.cell import Cell
from nad.bench.erasure import Erasure
from nad.bench.grid import networks, read, twin_of
from nad.bench.network import Network
from nad.bench.runner import Job, run_grid

__all__ = ["Cell", "Erasure", "Job", "Network", "networks", "read", "run_grid", "twin_of"]
