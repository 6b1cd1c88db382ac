"""How pictures are made: one clean style, drawn without a display, as SVG text or PNG bytes."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from josh_pipeline.report.palette import INK, MUTED, RULE

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#EAEEF3",
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: searchable, and set in the page's own font
    "svg.hashsalt": "josh-pipeline",  # equal figures give equal files
    "figure.constrained_layout.use": True,
}
SCREEN_PIXELS_PER_INCH = 104
"""Sets the 9.5 pt of the figures to about the size of the page's own small print."""
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
SCREEN_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@contextmanager
def canvas(
    width: float, height: float, panels: int = 1, widths: tuple[float, ...] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure of that size in inches and its panels, side by side, in the common style."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(1, panels, squeeze=False, width_ratios=widths)
        yield figure, list(grid[0])


def svg(figure: Figure) -> str:
    """Return a figure as one ``<svg>`` element that can stand inside a page."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        buffer = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)
    limit = figure.get_figwidth() * SCREEN_PIXELS_PER_INCH
    text = text.replace("<svg", f'<svg style="max-width:{limit:.0f}px"', 1)
    return text.replace("'DejaVu Sans'", SCREEN_FONTS.replace('"', "'")).strip()


def png(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as a PNG file."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        buffer = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()
