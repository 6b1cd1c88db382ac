"""The figures of a report: one clean style, drawn without a display, as SVG text or PNG bytes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from math import isfinite
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator, PercentFormatter

from josh_pipeline.core.progress import duration
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.evaluation.summary import Breakdown
from josh_pipeline.report.data import Cost, HarvestYield, PolicyChange, PolicyDrift, PolicyScore, TrainingCurve
from josh_pipeline.report.palette import (
    BEFORE,
    BLUE,
    BLUE_PALE,
    GOLD_PALE,
    GOLDEN,
    GREEN,
    GREY_PALE,
    GRID,
    INK,
    LOST,
    MUTED,
    PAPER,
    PURPLE,
    RULE,
    SERIES,
    WON,
    series_colour,
    themed,
)
from josh_pipeline.report.words import nats, percent

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.prop_cycle": cycler(color=SERIES),  # legends of what has no bar yet
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
    "grid.color": GRID,
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
SCREEN_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
STEP_COLOURS = {"cold start": BEFORE, "rollouts": BLUE, "training": GOLDEN, "evaluation": GREEN}
DASHED = (0, (4, 3))
PERCENT = PercentFormatter(1.0, decimals=0, symbol=" %")


def svg(figure: Figure) -> str:
    """Return a figure as one ``<svg>`` element inside a page, in the page's colours, named by its titles."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        buffer = io.StringIO()
        FigureCanvasSVG(figure)
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)
    limit = figure.get_figwidth() * SCREEN_PIXELS_PER_INCH
    name = escape("; ".join(axes.get_title(loc="left") for axes in figure.axes))
    text = text.replace("<svg", f'<svg role="img" aria-label="{name}" style="max-width:{limit:.0f}px"', 1)
    return themed(text).replace("'DejaVu Sans'", SCREEN_FONTS).strip()


def png(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as a PNG file."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        buffer = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


@contextmanager
def _canvas(
    width: float, height: float, *titles: str, widths: tuple[float, ...] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure of that size in inches and a panel a title, side by side, in the common style."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height))
        panels = list(figure.subplots(1, len(titles), squeeze=False, width_ratios=widths)[0])
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title)
        yield figure, panels


def _beside(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a word beside a mark, ``offset`` points away."""
    axes.annotate(text, place, xytext=offset, textcoords="offset points", **{"fontsize": 8.5} | style)


def _limit(axes: Axes, text: str, height: float, colour: str) -> None:
    """Draw a dashed line across, with its name below its left end."""
    axes.axhline(height, color=colour, linestyle=DASHED, linewidth=1.2)
    _beside(axes, text, (0, height), (4, -11), xycoords=("axes fraction", "data"), color=colour)


def _rows(axes: Axes, labels: Sequence[str], least: int = 1, above: float = 0.6, **style: Any) -> None:
    """Make the y axis a list that reads from the top."""
    axes.set_yticks(range(len(labels)), list(labels), **style)
    axes.set_ylim(max(len(labels), least) - 0.4, -above)
    axes.grid(axis="y", visible=False)


def _point(
    axes: Axes, place: int, value: float, ends: tuple[float, float], text: str, right: int, **style: Any
) -> None:
    """Draw a value with its interval, and its number ``right`` points beside it."""
    marks: dict[str, Any] = {"marker": "o", "markersize": 8, "capsize": 4, "zorder": 4}
    if isfinite(value):
        axes.errorbar(place, value, yerr=[[value - ends[0]], [ends[1] - value]], **marks | style)
    height = value if isfinite(value) else axes.get_ylim()[1]
    _beside(
        axes, text, (place, height), (right, -12), va="center", fontsize=9.5, fontweight="bold", color=style["color"]
    )


def _stacked(
    axes: Axes, series: Sequence[tuple[str, str, Sequence[float]]], height: float, **style: Any
) -> list[BarContainer]:
    """Draw bars from the left, each made of what the series (label, colour, counts) count for its row."""
    drawn = []
    left = [0.0] * len(series[0][2])
    for label, colour, counts in series:
        places = range(len(counts))
        drawn.append(axes.barh(places, counts, left=left, color=colour, height=height, label=label, **style))
        left = [a + b for a, b in zip(left, counts, strict=True)]
    return drawn


def success_by_iteration(scores: Sequence[PolicyScore], ceiling: Ceiling | None) -> Figure:
    """Success rate of every policy with its 95 % interval, mean reward beside it, the ceiling above."""
    goals = " and ".join(sorted({one.goals.plural for one in scores})) or "no goals"
    roles = " and ".join(sorted({one.role for one in scores})) or "none"
    named = next((f"{one.goals.score} by round: success on" for one in scores if one.goals.score), "Success by round,")
    title = f"{named} {goals}, role {roles}"
    with _canvas(max(6.6, 1.3 * len(scores)), 3.7, title) as (figure, (axes,)):
        places = range(len(scores))
        rewards = [one.score.reward for one in scores]
        axes.plot(places, rewards, color=GOLDEN, marker="s", markersize=5, label="mean reward")
        axes.plot(places, [one.score.success for one in scores], color=BLUE, zorder=3)
        for place, one in enumerate(scores):
            found = one.score
            _point(
                axes, place, found.success, (found.low, found.high), percent(found.success, 0), 10, color=BLUE,
                markerfacecolor=PAPER if one.promoted is False else BLUE, markeredgewidth=1.8,
                label="success rate, 95 % interval" if place == 0 else None,
            )  # fmt: skip
        if ceiling is not None:
            _limit(axes, f"user ceiling {percent(ceiling.share, 0)}", ceiling.share, MUTED)
        notes = ["(not promoted)" if one.promoted is False else f"n = {one.score.n}" for one in scores]
        axes.set_xticks(list(places), [f"{one.name}\n{note}" for one, note in zip(scores, notes, strict=True)])
        axes.set_xlim(-0.35, max(len(scores) - 1, 1) + 0.45)
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0.9 if ceiling else 1.0))
    return figure


def success_by_group(scores: Sequence[PolicyScore], group: str) -> Figure:
    """Success on each share of the goals, by a group of their calls: a mark and interval for each policy."""
    shares = [{one.name: one for one in score.score.by.get(group, ())} for score in scores]
    largest: dict[str, Breakdown] = {name: one for found in shares for name, one in found.items()}
    names = sorted(largest)
    height = 1.2 + max(0.62, 0.2 * len(scores)) * max(len(names), 2)
    with _canvas(6.6, height, f"All calls of a {group} earned, 95 % intervals") as (figure, (axes,)):
        step = 0.62 / max(len(scores), 1)
        for index, (score, found) in enumerate(zip(scores, shares, strict=True)):
            rows = [(place, found[name]) for place, name in enumerate(names) if name in found]
            axes.errorbar(
                [one.success for _, one in rows],
                [place + (index - (len(scores) - 1) / 2) * step for place, _ in rows],
                xerr=list(zip(*((one.success - one.low, one.high - one.success) for _, one in rows), strict=True)),
                linestyle="none", marker="osD^v"[index % 5], markersize=6, color=series_colour(index),
                elinewidth=1.6, label=score.name,
            )  # fmt: skip
        _rows(axes, [f"{name}\nn = {largest[name].n}" for name in names], above=0.55)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PERCENT)
        for edge in range(1, len(names)):
            axes.axhline(edge - 0.5, color=RULE, linewidth=0.8)
        if scores:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def paired_differences(changes: Sequence[PolicyChange]) -> Figure:
    """Each paired difference with its 95 % bootstrap interval; what touches zero is hollow."""
    with _canvas(6.6, 1.15 + 0.42 * max(len(changes), 2), "Paired differences, 95 % intervals") as (figure, (axes,)):
        axes.axvline(0, color=INK, linewidth=1)
        for place, c in enumerate(changes):
            clear = c.low > 0 or c.high < 0
            colour = WON if c.low > 0 else LOST if c.high < 0 else MUTED
            axes.plot([c.low, c.high], [place, place], color=colour, linewidth=2.4)
            axes.plot(
                c.difference, place, marker="o", markersize=8, color=colour, markeredgewidth=1.8,
                markerfacecolor=colour if clear else PAPER,
            )  # fmt: skip
            _beside(axes, f"{c.difference:+.3f}", (c.difference, place), (0, 8), ha="center", color=colour)
        _rows(axes, [f"{c.after} − {c.before}, {c.metric}" for c in changes], above=0.75)
        furthest = max([0.1, *(abs(edge) for c in changes for edge in (c.low, c.high))]) * 1.12
        axes.set_xlim(-furthest, furthest)
    return figure


def won_and_lost(changes: Sequence[PolicyChange]) -> Figure:
    """Goals that a policy won and lost against the one before it, out of the paired goals."""
    with _canvas(6.6, 1.15 + 0.5 * max(len(changes), 2), "Goals lost (left) and won (right)") as (figure, (axes,)):
        for place, c in enumerate(changes):
            for value, colour, side, gap in ((-c.lost, LOST, "right", -5), (c.won, WON, "left", 5)):
                axes.barh(place, value, color=colour, height=0.56)
                style = {"ha": side, "va": "center", "fontsize": 9.5, "fontweight": "bold", "color": colour}
                _beside(axes, f"{abs(value)}", (value, place), (gap, 0), **style)
        axes.axvline(0, color=INK, linewidth=1)
        labels = [f"{c.after} against {c.before}\n{c.both} solved by both, {c.neither} by neither" for c in changes]
        _rows(axes, labels, fontsize=8.8)
        furthest = max([5, *(max(c.won, c.lost) for c in changes)]) * 1.18
        axes.set_xlim(-furthest, furthest)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    return figure


def drift_by_policy(drifts: Sequence[PolicyDrift]) -> Figure:
    """Drift of each policy from the foundation with its 95 % interval, and the limit for a candidate.

    One that is no number stands at the top.
    """
    measured = [(one, one.drift) for one in drifts if one.drift is not None]
    limits, means = [one.max_drift for one in drifts], [found.mean for _, found in measured]
    top = 1.08 * max([0.1, *limits, *(found.high for _, found in measured if isfinite(found.high))])
    title = "Drift from the foundation on general texts"
    with _canvas(max(6.6, 1.3 * (len(measured) + 1)), 2.9, title) as (figure, (axes,)):
        axes.set_ylim(0, top)
        axes.plot(0, 0, marker="o", markersize=8, color=BEFORE, clip_on=False, zorder=5)
        for place, (one, found) in enumerate(measured, start=1):
            colour = LOST if one.too_far else PURPLE
            _point(axes, place, found.mean, (found.low, found.high), nats(found.mean), 9, color=colour)
        axes.plot(range(len(measured) + 1), [0.0, *means], color=PURPLE, linewidth=1.2, zorder=1)
        if drifts:
            _limit(axes, f"limit for a candidate: {limits[-1]:g}", limits[-1], LOST)
        axes.set_xticks(range(len(measured) + 1), ["foundation", *(one.name for one, _ in measured)])
        axes.set_xlim(-0.35, max(len(measured), 1) + 0.6)
        axes.set_ylabel("nats a token")
        axes.grid(axis="x", visible=False)
    return figure


def training_curves(curves: Sequence[TrainingCurve]) -> Figure:
    """Loss by optimizer step, a line a training."""
    with _canvas(6.6, 3.2, "Training loss") as (figure, (axes,)):
        for index, curve in enumerate(curves):
            axes.plot(
                *zip(*curve.points, strict=True), color=series_colour(index),
                linestyle=("-", (0, (5, 2)), (0, (1, 1.5)), "-.")[index % 4],
                label=f"{curve.name} ({curve.method})",
            )  # fmt: skip
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        if curves:
            axes.legend(loc="upper right")
    return figure


def harvest_yield(harvests: Sequence[HarvestYield]) -> Figure:
    """Left: trees by reward, an iteration a bar. Right: turns that gave rows, by search round."""
    size, titles = (9.6, max(3.1, 1.1 + 0.42 * len(harvests))), ("Search trees", "Turns that gave training rows")
    with _canvas(*size, *titles, widths=(1, 1.1)) as (figure, (trees, rows)):
        kinds: list[tuple[str, str, list[float]]] = [
            ("full reward", GOLDEN, [h.full for h in harvests]),
            ("some reward", GOLD_PALE, [h.partial for h in harvests]),
            ("no reward", GREY_PALE, [h.none for h in harvests]),
            ("failed", LOST, [h.failed for h in harvests]),
        ]
        shown = kinds if any(kinds[-1][2]) else kinds[:-1]
        for (label, *_), bars in zip(shown, _stacked(trees, shown, 0.58, edgecolor=PAPER), strict=True):
            # Black on the bright bars of both modes; the failed ones have the paper's contrast.
            colour = PAPER if label == "failed" else "black"
            trees.bar_label(bars, label_type="center", fontsize=8.8, color=colour, fmt=lambda n: f"{n:g}" if n else "")
        _rows(trees, [h.name for h in harvests], least=2)
        trees.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4, columnspacing=1, handlelength=1)
        rounds = sorted({round_ for h in harvests for round_ in h.by_round})
        good, bad = (
            [sum(h.by_round.get(round_, (0, 0))[side] for h in harvests) for round_ in rounds] for side in (0, 1)
        )
        rows.bar(rounds, good, color=WON, width=0.66, label="desirable")
        rows.bar(rounds, [-n for n in bad], color=LOST, width=0.66, label="undesirable")
        rows.axhline(0, color=MUTED, linewidth=1)
        rows.set_xticks(rounds)
        rows.set_xlabel("search round of the turn")
        rows.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        rows.yaxis.set_major_locator(MaxNLocator(integer=True))
        rows.grid(axis="x", visible=False)
        rows.legend(loc="upper right")
    return figure


def cost(costs: Sequence[Cost]) -> Figure:
    """Left: wall time of each step. Right: prompt tokens, cached ones apart, and sampled tokens."""
    with _canvas(9.6, 1.2 + 0.3 * max(len(costs), 3), "Wall time", "Tokens") as (figure, (time, tokens)):
        places = range(len(costs))
        seconds = [one.seconds or 0.0 for one in costs]
        time.barh(places, seconds, color=[STEP_COLOURS.get(one.step, MUTED) for one in costs], height=0.6)
        for place, one in enumerate(costs):
            text = "not recorded" if one.seconds is None else duration(one.seconds)
            _beside(time, text, (seconds[place], place), (4, 0), va="center")
            if not one.usage.prompt_tokens + one.usage.completion_tokens:
                _beside(tokens, "not recorded", (0, place), (4, 0), va="center", color=MUTED)
        time.set_xlim(0, max([1.0, *seconds]) * 1.25)
        time.set_xlabel("seconds")
        used = [one.usage for one in costs]
        parts = [
            ("prompt, cached", BLUE_PALE, [one.cached_tokens / 1e3 for one in used]),
            ("prompt, computed", BLUE, [(one.prompt_tokens - one.cached_tokens) / 1e3 for one in used]),
            ("sampled, or trained on", GOLDEN, [one.completion_tokens / 1e3 for one in used]),
        ]
        _stacked(tokens, parts, 0.6)
        tokens.set_xlabel("thousand tokens")
        figure.legend(loc="outside lower right", ncols=3, columnspacing=1.2, handlelength=1)
        _rows(time, [f"{one.round}: {one.step}" if one.round else one.step for one in costs], least=2)
        _rows(tokens, [""] * len(costs), least=2)
    return figure
