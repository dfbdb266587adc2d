"""Plots as SVG, the same bytes every time."""

import io
import warnings
from collections.abc import Callable

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure

CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
STYLE = {
    "svg.hashsalt": "nad",
    "svg.fonttype": "none",  # text stays text: any script shows in the reader's fonts
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "text.parse_math": False,  # a dollar in a name starts no formula
}


def svg(draw: Callable[[Figure], None], size: tuple[float, float], about: str | None = None) -> bytes:
    """What `draw` puts on a figure.

    Args:
        size: width and height in inches. about: written into the file's description.
    """
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the reader's fonts have it, or a box is shown
        figure, content = Figure(figsize=size, layout="constrained"), io.BytesIO()
        draw(figure)
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Description": about})
    return content.getvalue()
