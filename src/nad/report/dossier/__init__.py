"""The report of a purification, `report.html`: a pure function of the result and what lies beside it."""

from nad.report.dossier.marking import compared
from nad.report.dossier.page import headlines, write

__all__ = ["compared", "headlines", "write"]
