"""Drawing: sizes and fonts a journal takes, colours told apart by everyone, equal bytes."""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from longact_cli.reporting.table import Provenance, Table

# Okabe and Ito's palette, told apart with colour-blind eyes: https://jfly.uni-koeln.de/color/
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
# Widths of a column and of a page of ACL papers, in inches: https://acl-org.github.io/ACLPUB/
COLUMN_WIDTH, PAGE_WIDTH = 3.03, 6.30
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "longact",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "legend.frameon": False,
    "savefig.dpi": 300,
}

Painter = Callable[[Figure], None]


class Drawing(NamedTuple):
    """A figure that can be drawn.

    Attributes:
        name: File name without suffix.
        title: What it shows, in a sentence.
        width: Inches, as is `height`.
        paint: Draws on an empty figure.
        points: Every number in it.
    """

    name: str
    title: str
    width: float
    height: float
    paint: Painter
    points: Table

    def draw(self, formats: Sequence[str], provenance: Provenance) -> tuple[tuple[str, bytes], ...]:
        """Return file name and bytes in each of `pdf`, `png`, `svg`; equal input, equal bytes."""
        return draw(self.name, self.paint, (self.width, self.height), formats, provenance)


def draw(
    name: str,
    paint: Painter,
    size: tuple[float, float],
    formats: Sequence[str],
    provenance: Provenance,
) -> tuple[tuple[str, bytes], ...]:
    """Return file name and bytes of a figure in each format; equal input gives equal bytes.

    Args:
        name: File name without suffix.
        paint: Draws on an empty figure.
        size: Width and height in inches.
        formats: `pdf`, `png` or `svg`.
        provenance: Stored in the files' metadata.
    """
    return tuple(
        (f"{name}.{suffix}", _drawn(paint, size, suffix, provenance)) for suffix in formats
    )


@lru_cache(maxsize=256)
def _drawn(paint: Painter, size: tuple[float, float], suffix: str, provenance: Provenance) -> bytes:
    """Draw one format; a page and the files beside it share the drawing."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix, metadata=_metadata(suffix, provenance))
    return stream.getvalue()


def _metadata(suffix: str, provenance: Provenance) -> dict[str, Any]:
    text = "; ".join(provenance.lines())
    if suffix == "pdf":
        return {"Subject": text, "CreationDate": None, "Producer": None, "Creator": "longact"}
    if suffix == "svg":
        return {"Description": text, "Date": None, "Creator": "longact"}
    return {"Description": text, "Software": "longact"}


def look(i: int) -> tuple[str, str]:
    """Return colour and line style of the i-th series; no two of the first 28 are alike."""
    return PALETTE[i % len(PALETTE)], LINES[i // len(PALETTE) % len(LINES)]
