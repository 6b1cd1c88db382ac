"""The report's figures of the work itself: training, harvest, cost."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from josh_pipeline.report.data import Cost, HarvestYield, TrainingCurve
from josh_pipeline.report.drawing import canvas
from josh_pipeline.report.palette import BEFORE, GOLDEN, LOST, MUTED, SERIES, WON, series_colour
from josh_pipeline.report.words import duration

STEP_COLOURS = {
    "cold start": BEFORE,
    "rollouts": SERIES[0],
    "training": SERIES[4],
    "evaluation": SERIES[2],
}


def training_curves(curves: Sequence[TrainingCurve]) -> Figure:
    """Loss by optimizer step, a line a training."""
    with canvas(6.6, 3.2) as (figure, (axes,)):
        for index, curve in enumerate(curves):
            axes.plot(
                [step for step, _ in curve.points],
                [loss for _, loss in curve.points],
                color=series_colour(index),
                linestyle=("-", (0, (5, 2)), (0, (1, 1.5)), "-.")[index % 4],
                label=f"{curve.name} ({curve.method})",
            )
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        if curves:
            axes.legend(loc="upper right")
        axes.set_title("Training loss")
    return figure


def harvest_yield(harvests: Sequence[HarvestYield]) -> Figure:
    """Left: trees by reward, an iteration a bar. Right: turns that gave rows, by search round."""
    with canvas(9.6, max(3.1, 1.1 + 0.42 * len(harvests)), panels=2, widths=(1, 1.1)) as (
        figure,
        (trees, rows),
    ):
        kinds = (
            ("full reward", GOLDEN, [h.full for h in harvests]),
            ("some reward", "#F6D58F", [h.partial for h in harvests]),
            ("no reward", "#C9D1DB", [h.none for h in harvests]),
            ("failed", LOST, [h.failed for h in harvests]),
        )
        left = [0] * len(harvests)
        places = list(range(len(harvests)))
        for label, colour, counts in kinds:
            if not any(counts) and label == "failed":
                continue
            trees.barh(places, counts, left=left, color=colour, height=0.58, label=label, edgecolor="white")
            for place, count in enumerate(counts):
                if count:
                    trees.annotate(
                        str(count), (left[place] + count / 2, place), ha="center", va="center", fontsize=8.8
                    )
            left = [a + b for a, b in zip(left, counts, strict=True)]
        trees.set_yticks(places, [h.name for h in harvests])
        trees.set_ylim(max(len(harvests), 2) - 0.4, -0.6)
        trees.grid(axis="y", visible=False)
        trees.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4, columnspacing=1, handlelength=1
        )
        trees.set_title("Search trees")
        rounds = sorted({round_ for h in harvests for round_ in h.by_round})
        good = [sum(h.by_round.get(r, (0, 0))[0] for h in harvests) for r in rounds]
        bad = [sum(h.by_round.get(r, (0, 0))[1] for h in harvests) for r in rounds]
        rows.bar(rounds, good, color=WON, width=0.66, label="desirable")
        rows.bar(rounds, [-n for n in bad], color=LOST, width=0.66, label="undesirable")
        rows.axhline(0, color=MUTED, linewidth=1)
        rows.set_xticks(rounds)
        rows.set_xlabel("search round of the turn")
        rows.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        rows.yaxis.set_major_locator(MaxNLocator(integer=True))
        rows.grid(axis="x", visible=False)
        rows.legend(loc="upper right")
        rows.set_title("Turns that gave training rows")
    return figure


def cost(costs: Sequence[Cost]) -> Figure:
    """Left: wall time of each step. Right: prompt tokens, cached ones apart, and sampled tokens."""
    names = [f"{c.round}: {c.step}" if c.round else c.step for c in costs]
    places = list(range(len(costs)))
    with canvas(9.6, 1.2 + 0.3 * max(len(costs), 3), panels=2) as (figure, (time, tokens)):
        seconds = [c.seconds or 0.0 for c in costs]
        time.barh(places, seconds, color=[STEP_COLOURS.get(c.step, MUTED) for c in costs], height=0.6)
        for place, (value, step) in enumerate(zip(seconds, costs, strict=True)):
            text = "not recorded" if step.seconds is None else duration(value)
            time.annotate(
                text, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
            )
        time.set_yticks(places, names)
        time.set_xlim(0, max([1.0, *seconds]) * 1.25)
        time.set_xlabel("seconds")
        time.set_title("Wall time")
        cached = [c.cached_tokens / 1e3 for c in costs]
        fresh = [(c.prompt_tokens - c.cached_tokens) / 1e3 for c in costs]
        drawn = [c.completion_tokens / 1e3 for c in costs]
        tokens.barh(places, cached, color="#BFD9EA", height=0.6, label="prompt, cached")
        tokens.barh(places, fresh, left=cached, color=SERIES[0], height=0.6, label="prompt, computed")
        both = [a + b for a, b in zip(cached, fresh, strict=True)]
        tokens.barh(places, drawn, left=both, color=GOLDEN, height=0.6, label="sampled, or trained on")
        for place, step in enumerate(costs):
            if not step.prompt_tokens + step.completion_tokens:
                tokens.annotate(
                    "not recorded", (0, place), xytext=(4, 0), textcoords="offset points", va="center",
                    fontsize=8.5, color=MUTED,
                )  # fmt: skip
        tokens.set_yticks(places, [""] * len(costs))
        tokens.set_xlabel("thousand tokens")
        figure.legend(loc="outside lower right", ncols=3, columnspacing=1.2, handlelength=1)
        tokens.set_title("Tokens")
        for axes in (time, tokens):
            axes.set_ylim(max(len(costs), 2) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
    return figure
