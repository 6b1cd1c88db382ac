"""The report's figures of scores: success by iteration, domains, paired differences, won and lost goals."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from josh_pipeline.report.data import Ceiling, Comparison, PolicyDrift, PolicyScore
from josh_pipeline.report.drawing import canvas
from josh_pipeline.report.palette import (
    BEFORE,
    BLUE,
    INK,
    LOST,
    MUTED,
    ORANGE,
    PURPLE,
    RULE,
    WON,
    series_colour,
)
from josh_pipeline.report.words import percent


def success_by_iteration(scores: Sequence[PolicyScore], ceiling: Ceiling | None) -> Figure:
    """Success rate of every policy with its 95 % interval, mean reward beside it, the ceiling above."""
    with canvas(max(6.6, 1.3 * len(scores)), 3.7) as (figure, (axes,)):
        places = range(len(scores))
        axes.plot(
            places, [s.reward for s in scores], color=ORANGE, marker="s", markersize=5, label="mean reward"
        )
        axes.plot(places, [s.success for s in scores], color=BLUE, zorder=3)
        for place, score in zip(places, scores, strict=True):
            refused = score.promoted is False
            axes.errorbar(
                place,
                score.success,
                yerr=[[score.success - score.low], [score.high - score.success]],
                color=BLUE, marker="o", markersize=8, capsize=4, zorder=4,
                markerfacecolor="white" if refused else BLUE, markeredgewidth=1.8,
                label="success rate, 95 % interval" if place == 0 else None,
            )  # fmt: skip
            axes.annotate(
                percent(score.success, 0),
                (place, score.success),
                xytext=(10, -12), textcoords="offset points", va="center", fontweight="bold", color=BLUE,
            )  # fmt: skip
        if ceiling is not None:
            axes.axhline(ceiling.success, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
            axes.annotate(
                f"user ceiling {percent(ceiling.success, 0)}",
                (0, ceiling.success),
                xycoords=("axes fraction", "data"), xytext=(4, -11), textcoords="offset points",
                fontsize=8.5, color=MUTED,
            )  # fmt: skip
        names = [
            f"{s.name}\n(not promoted)" if s.promoted is False else f"{s.name}\nn = {s.n}" for s in scores
        ]
        axes.set_xticks(list(places), names)
        axes.set_xlim(-0.35, max(len(scores) - 1, 1) + 0.45)
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0.9 if ceiling else 1.0))
        axes.set_title(f"Success by round, {_goals(scores)}")
    return figure


def by_domain(scores: Sequence[PolicyScore]) -> Figure:
    """Success in each domain, a mark for each policy with its 95 % interval."""
    domains = sorted({b.name for score in scores for b in score.by_domain})
    with canvas(6.6, 1.2 + max(0.62, 0.2 * len(scores)) * max(len(domains), 2)) as (figure, (axes,)):
        step = 0.62 / max(len(scores), 1)
        for index, score in enumerate(scores):
            shares = {b.name: b for b in score.by_domain}
            colour = series_colour(index)
            rows = [(place, shares[name]) for place, name in enumerate(domains) if name in shares]
            axes.errorbar(
                [b.success for _, b in rows],
                [place + (index - (len(scores) - 1) / 2) * step for place, _ in rows],
                xerr=[[b.success - b.low for _, b in rows], [b.high - b.success for _, b in rows]],
                linestyle="none", marker="osD^v"[index % 5], markersize=6, color=colour, elinewidth=1.6,
                label=score.name,
            )  # fmt: skip
        counts = {b.name: b.n for score in scores for b in score.by_domain}
        axes.set_yticks(range(len(domains)), [f"{name}\nn = {counts[name]}" for name in domains])
        axes.set_ylim(len(domains) - 0.45, -0.55)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.grid(axis="y", visible=False)
        for edge in range(1, len(domains)):
            axes.axhline(edge - 0.5, color=RULE, linewidth=0.8)
        if scores:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set_title("All calls of a domain earned, 95 % intervals")
    return figure


def paired_differences(comparisons: Sequence[Comparison]) -> Figure:
    """Each paired difference with its 95 % bootstrap interval; what touches zero is hollow."""
    with canvas(6.6, 1.15 + 0.42 * max(len(comparisons), 2)) as (figure, (axes,)):
        axes.axvline(0, color=INK, linewidth=1)
        for place, c in enumerate(comparisons):
            clear = c.low > 0 or c.high < 0
            colour = WON if c.low > 0 else LOST if c.high < 0 else MUTED
            axes.plot([c.low, c.high], [place, place], color=colour, linewidth=2.4)
            axes.plot(
                c.difference, place, marker="o", markersize=8, color=colour, markeredgewidth=1.8,
                markerfacecolor=colour if clear else "white",
            )  # fmt: skip
            axes.annotate(
                f"{c.difference:+.3f}",
                (c.difference, place),
                xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8.5, color=colour,
            )  # fmt: skip
        labels = [f"{c.after} − {c.before}, {c.metric}" for c in comparisons]
        axes.set_yticks(range(len(comparisons)), labels)
        axes.set_ylim(max(len(comparisons), 1) - 0.45, -0.75)
        furthest = max([0.1, *(abs(edge) for c in comparisons for edge in (c.low, c.high))]) * 1.12
        axes.set_xlim(-furthest, furthest)
        axes.grid(axis="y", visible=False)
        axes.set_title("Paired differences, 95 % intervals")
    return figure


def won_and_lost(comparisons: Sequence[Comparison]) -> Figure:
    """Goals that a policy won and lost against the one before it, out of the paired goals."""
    with canvas(6.6, 1.15 + 0.5 * max(len(comparisons), 2)) as (figure, (axes,)):
        for place, c in enumerate(comparisons):
            for value, colour, side in ((-c.lost, LOST, "right"), (c.won, WON, "left")):
                axes.barh(place, value, color=colour, height=0.56)
                axes.annotate(
                    f"{abs(value)}",
                    (value, place),
                    xytext=(5 if side == "left" else -5, 0), textcoords="offset points",
                    ha=side, va="center", fontweight="bold", color=colour,
                )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1)
        labels = [
            f"{c.after} against {c.before}\n{c.both} solved by both, {c.neither} by neither"
            for c in comparisons
        ]
        axes.set_yticks(range(len(comparisons)), labels, fontsize=8.8)
        axes.set_ylim(max(len(comparisons), 1) - 0.4, -0.6)
        furthest = max([5, *(max(c.won, c.lost) for c in comparisons)]) * 1.18
        axes.set_xlim(-furthest, furthest)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.grid(axis="y", visible=False)
        axes.set_title("Goals lost (left) and won (right)")
    return figure


def drift_by_policy(drifts: Sequence[PolicyDrift]) -> Figure:
    """Drift of each policy from the foundation with its 95 % interval, and the limit for a candidate."""
    measured = [(one.name, one.drift) for one in drifts if one.drift is not None]
    with canvas(max(6.6, 1.3 * (len(measured) + 1)), 2.9) as (figure, (axes,)):
        axes.plot(0, 0, marker="o", markersize=8, color=BEFORE, clip_on=False, zorder=5)
        for place, (_, found) in enumerate(measured, start=1):
            axes.errorbar(
                place, found.mean, yerr=[[found.mean - found.low], [found.high - found.mean]],
                color=PURPLE, marker="o", markersize=8, capsize=4, zorder=4,
            )  # fmt: skip
            axes.annotate(
                f"{found.mean:.2f}", (place, found.mean), xytext=(9, -12), textcoords="offset points",
                va="center", fontweight="bold", color=PURPLE,
            )  # fmt: skip
        means = [0.0, *(found.mean for _, found in measured)]
        axes.plot(range(len(means)), means, color=PURPLE, linewidth=1.2, zorder=1)
        if drifts:
            limit = drifts[-1].max_drift
            axes.axhline(limit, color=LOST, linestyle=(0, (4, 3)), linewidth=1.2)
            axes.annotate(
                f"limit for a candidate: {limit:g}", (0, limit), xycoords=("axes fraction", "data"),
                xytext=(4, -11), textcoords="offset points", fontsize=8.5, color=LOST,
            )  # fmt: skip
        axes.set_xticks(range(len(means)), ["foundation", *(name for name, _ in measured)])
        axes.set_xlim(-0.35, max(len(measured), 1) + 0.6)
        axes.set_ylim(
            0, 1.08 * max([0.1, *(one.max_drift for one in drifts), *(f.high for _, f in measured)])
        )
        axes.set_ylabel("nats a token")
        axes.grid(axis="x", visible=False)
        axes.set_title("Drift from the foundation on general texts")
    return figure


def _goals(scores: Sequence[PolicyScore]) -> str:
    kinds = sorted({"parts of goals" if s.goals == "parts" else "whole goals" for s in scores})
    roles = sorted({s.role for s in scores})
    return f"{' and '.join(kinds) or 'no goals'}, role {' and '.join(roles) or 'none'}"
