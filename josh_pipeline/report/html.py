"""The report as one HTML file that opens offline: tables, figures, conversations, settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.evaluation.summary import Breakdown
from josh_pipeline.report.data import Comparison, Cost, Example, Played, PolicyScore, ReportData
from josh_pipeline.report.drawing import svg
from josh_pipeline.report.figures import (
    by_domain,
    drift_by_policy,
    paired_differences,
    success_by_iteration,
    won_and_lost,
)
from josh_pipeline.report.pages import Bubble, bubbles, page
from josh_pipeline.report.scores import rate_text
from josh_pipeline.report.tree_svg import dots
from josh_pipeline.report.tree_view import earned_where
from josh_pipeline.report.words import goal_kind, milestone_texts, percent, sentences
from josh_pipeline.report.work_figures import cost, harvest_yield, training_curves


@dataclass(frozen=True)
class Card:
    """A number in large type."""

    value: str
    label: str
    tone: str = ""


@dataclass(frozen=True)
class _Side:
    policy: str
    reward: float
    earned: tuple[int, ...]
    messages: tuple[Bubble, ...]


@dataclass(frozen=True)
class _Shown:
    kind: str
    title: str
    message: str
    milestones: tuple[str, ...]
    together: tuple[Bubble, ...]
    sides: tuple[_Side, ...]


@dataclass(frozen=True)
class _Share:
    name: str
    n: int
    success: tuple[float | None, ...]


def report_page(data: ReportData) -> str:
    """Render a report as a whole HTML document."""
    overall = overall_change(data)
    return page(
        "report.html.jinja",
        {
            "data": data,
            "headline": headline(data, overall),
            "verdict": verdict(data, overall),
            "cards": cards(data, overall),
            "has_parts": any(score.goals == "parts" for score in data.scores),
            "resamples": data.settings.get("evaluation", {}).get("bootstrap", 10_000),
            "figures": report_figures(data),
            "acts": _shares(data, lambda score: score.by_act),
            "tools": _shares(data, lambda score: score.by_tool),
            "error_names": sorted({name for score in data.main for name in score.errors}),
            "fault_names": sorted({name for score in data.main for name in score.faults}),
            "drifted": [one for one in data.drifts if one.drift is not None],
            "drift_kinds": sorted({kind for one in data.drifts if one.drift for kind in one.drift.by_kind}),
            "spent": _spent(data),
            "priced": any(cost.money for cost in data.costs),
            "tree_round": _tree_round(data),
            "tree_svg": dots(data.tree) if data.tree else "",
            "tree_wish": sentences(data.tree.goal.message) if data.tree else "",
            "tree_milestones": milestone_texts(data.tree.goal) if data.tree else (),
            "tree_earned": earned_where(data.tree) if data.tree else (),
            "examples": _by_round(data),
            "setting_groups": list(setting_groups(data.settings)),
        },
    )


def report_figures(data: ReportData) -> dict[str, str]:
    """Draw all figures of a report as SVG, by name; those that have nothing to show are empty."""
    kind = data.main[0].goals if data.main else "parts"
    tested = [c for c in data.comparisons if c.role == "test" and c.goals == kind]
    won = [c for c in tested if c.metric == "success"]
    return {
        "success": svg(success_by_iteration(data.main, data.ceiling)) if data.main else "",
        "domains": svg(by_domain(data.main)) if data.main else "",
        "differences": svg(paired_differences(tested)) if tested else "",
        "outcomes": svg(won_and_lost(won)) if won else "",
        "drift": svg(drift_by_policy(data.drifts)) if any(one.drift for one in data.drifts) else "",
        "curves": svg(training_curves(data.curves)) if data.curves else "",
        "harvest": svg(harvest_yield(data.harvests)) if data.harvests else "",
        "cost": svg(cost(data.costs)) if data.costs else "",
    }


def overall_change(data: ReportData) -> Comparison | None:
    """The paired change in success from the first to the last policy on test goals, if it was compared."""
    if len(data.main) < 2:
        return None
    ends = data.main[0].name, data.main[-1].name
    found = [
        c
        for c in data.comparisons
        if (c.before, c.after) == ends
        and (c.metric, c.role, c.goals) == ("success", "test", data.main[0].goals)
    ]
    return found[0] if found else None


def headline(data: ReportData, overall: Comparison | None) -> str:
    """What the report found, as a title."""
    if not data.main:
        return "No policy has been evaluated yet"
    if overall is None:
        return f"Success {percent(data.main[-1].success, 0)} before any round"
    change = f"success went from {percent(overall.mean_before, 0)} to {percent(overall.mean_after, 0)}"
    if overall.low > 0:
        return f"The agent got better: {change}"
    if overall.high < 0:
        return f"The agent got worse: {change}"
    return f"No clear change: {change}"


def verdict(data: ReportData, overall: Comparison | None) -> str:
    """The finding in one or two sentences, with its interval."""
    if not data.main:
        return "Run josh iterate to evaluate a policy."
    last = data.main[-1]
    goals = "parts of goals" if last.goals == "parts" else "whole goals"
    if overall is None:
        return (
            f"{last.name} solves {rate_text(last)} of {last.n} held-out "
            f"{goals}. Nothing has been trained from search trees yet."
        )
    clear = "excludes zero" if overall.low > 0 or overall.high < 0 else "holds zero"
    text = (
        f"On {overall.n} held-out {goals}, {overall.after} against {overall.before}: a paired difference of "
        f"{100 * overall.difference:+.1f} points in success, 95 % interval "
        f"[{100 * overall.low:+.1f}, {100 * overall.high:+.1f}], which {clear}; "
        f"{overall.won} goals won, {overall.lost} lost."
    )
    if last.promoted is False:
        text += f" The gate did not promote {last.name}."
    return text


def cards(data: ReportData, overall: Comparison | None) -> list[Card]:
    """The report's main numbers."""
    if not data.main:
        return []
    first, last = data.main[0], data.main[-1]
    found = [Card(percent(first.success), f"success, {first.name} (n = {first.n})")]
    if last is not first:
        found.append(Card(percent(last.success), f"success, {last.name} (n = {last.n})"))
    if overall is not None:
        tone = "good" if overall.low > 0 else "bad" if overall.high < 0 else ""
        label = f"points, paired, 95 % interval [{100 * overall.low:+.1f}, {100 * overall.high:+.1f}]"
        found.append(Card(f"{100 * overall.difference:+.1f}", label, tone))
    if data.drifts and (drift := data.drifts[-1].drift) is not None:
        tone = "bad" if drift.mean > data.drifts[-1].max_drift else ""
        found.append(Card(f"{drift.mean:.2f}", f"nats a token: drift of {data.drifts[-1].name}", tone))
    if data.harvests:
        trees, full = sum(h.trees for h in data.harvests), sum(h.full for h in data.harvests)
        found.append(Card(f"{full} of {trees}", "search trees with the full reward"))
    if data.ceiling is not None:
        found.append(Card(percent(data.ceiling.success), "user ceiling: what a perfect agent reaches"))
    return found


def setting_groups(settings: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Settings as named groups of (name, value), plain ones first."""
    plain = [(name, _value(value)) for name, value in settings.items() if not isinstance(value, Mapping)]
    if plain:
        yield "run", plain
    for name, group in settings.items():
        if isinstance(group, Mapping):
            yield name, list(_flat(group))


def _flat(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _value(value)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _shares(data: ReportData, of: Callable[[PolicyScore], tuple[Breakdown, ...]]) -> list[_Share]:
    """A row for each name of a breakdown, with the success of every policy that the figures show."""
    names = sorted({share.name for score in data.main for share in of(score)})
    found = []
    for name in names:
        shares = [next((one for one in of(score) if one.name == name), None) for score in data.main]
        n = max(share.n for share in shares if share is not None)
        found.append(_Share(name, n, tuple(share.success if share else None for share in shares)))
    return found


def _spent(data: ReportData) -> Cost:
    """All steps together; time that was not recorded is left out."""
    return Cost(
        iteration=0,
        round="",
        step="together",
        seconds=sum(cost.seconds or 0.0 for cost in data.costs),
        requests=sum(cost.requests for cost in data.costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in data.costs),
        cached_tokens=sum(cost.cached_tokens for cost in data.costs),
        completion_tokens=sum(cost.completion_tokens for cost in data.costs),
        user_tokens=sum(cost.user_tokens for cost in data.costs),
        money=sum(cost.money for cost in data.costs),
    )


def _tree_round(data: ReportData) -> str:
    """Where the drawn tree was searched."""
    searched = data.tree.iteration if data.tree else None
    if searched is None:
        return "an iteration before"
    return next((h.name for h in data.harvests if h.iteration == searched), f"iteration {searched}")


def _by_round(data: ReportData) -> list[tuple[str, list[_Shown]]]:
    """The examples by the policy that won or lost, the last one first."""
    found: dict[str, list[_Shown]] = {}
    for example in data.examples:
        found.setdefault(example.after.policy, []).append(_shown(example))
    return list(found.items())


def _shown(example: Example) -> _Shown:
    before, after = bubbles(example.before.messages), bubbles(example.after.messages)
    parted = parting(before, after)

    def side(played: Played, messages: tuple[Bubble, ...]) -> _Side:
        return _Side(played.policy, played.reward, played.earned, messages[parted:])

    return _Shown(
        kind=example.kind,
        title=goal_kind(example.goal),
        message=sentences(example.goal.message),
        milestones=milestone_texts(example.goal),
        together=before[:parted],
        sides=(side(example.before, before), side(example.after, after)),
    )


def parting(before: Sequence[Bubble], after: Sequence[Bubble]) -> int:
    """Return how many messages two conversations have in common before they part."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    return same
