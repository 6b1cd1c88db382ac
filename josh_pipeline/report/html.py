"""The report as one HTML file that opens offline: tables, figures, conversations, settings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from josh_pipeline.evaluation.failures import by_ending, counted
from josh_pipeline.report import figures
from josh_pipeline.report.data import Cost, Example, PolicyChange, PolicyScore, ReportData
from josh_pipeline.report.load import load_report
from josh_pipeline.report.pages import Bubble, page, write_page
from josh_pipeline.report.tree_svg import boxes
from josh_pipeline.report.words import ONE_RUN, nats, percent, rate_text
from josh_pipeline.search.tree import Usage
from josh_pipeline.store.warehouse import Warehouse

PolicyTable = tuple[str, str, list[tuple[str, str, list[str]]]]
"""Title, heading, and rows: each a name, a note on it, and a cell a policy."""


def write_report(warehouse: Warehouse, folder: Path, iteration: str | None = None) -> Path:
    """Write the report of a line of iterations, up to one of them.

    Args:
        folder: where it is put; made where it does not exist.
        iteration: partition key, which goes into the file's name: ``report-<iteration>.html``; None for
            the last one that was evaluated: ``report.html``.

    Returns:
        The report's path.

    Raises:
        UserError: nothing has been evaluated, not that iteration, or the folder cannot be written to.
    """
    report = folder / (f"report-{iteration}.html" if iteration else "report.html")
    write_page(report, report_page(load_report(warehouse, iteration)))
    return report


def report_page(data: ReportData) -> str:
    """Render a report as a whole HTML document."""
    overall = overall_change(data)
    examples: dict[str, list[Example]] = {}
    for example in data.examples:
        examples.setdefault(example.after.policy, []).append(example)
    return page(
        "report.html.jinja",
        {
            "data": data,
            "headline": headline(data, overall),
            "verdict": verdict(data, overall),
            "cards": cards(data, overall),
            "notes": sorted({score.goals.note for score in data.scores if score.goals.note}),
            "explained": sorted({score.goals.explained for score in data.scores if score.goals.explained}),
            "published": data.main[0].goals if data.main and data.main[0].goals.score else None,
            "one_run": ONE_RUN,
            "resamples": data.settings.get("evaluation", {}).get("bootstrap", 10_000),
            "figures": report_figures(data),
            "figure_group": drawn_group(data.main),
            "policy_tables": list(policy_tables(data)),
            "drifted": [one for one in data.drifts if one.drift is not None],
            "drift_kinds": sorted({kind for one in data.drifts if one.drift for kind in one.drift.by_kind}),
            "spent": all_steps(data.costs),
            "priced": any(one.usage.cost for one in data.costs),
            "tree_round": _tree_round(data),
            "tree_svg": boxes(data.tree) if data.tree else "",
            "examples": examples,
            "parting": parting,
            "setting_groups": setting_groups(data.settings).items(),
        },
    )


def report_figures(data: ReportData) -> dict[str, str]:
    """Draw all figures of a report as SVG, by name; those that have nothing to show are empty."""
    kind = data.main[0].goals.name if data.main else ""
    tested = [one for one in data.changes if one.role == "test" and one.goals.name == kind]
    won = [one for one in tested if one.metric == "success"]
    group = drawn_group(data.main)
    drifts = data.drifts if any(one.drift for one in data.drifts) else ()
    drawn: dict[str, tuple[Any, ...]] = {
        "success": (figures.success_by_iteration, data.main, data.ceiling),
        "groups": (figures.success_by_group, data.main if group else (), group),
        "differences": (figures.paired_differences, tested),
        "outcomes": (figures.won_and_lost, won),
        "drift": (figures.drift_by_policy, drifts),
        "curves": (figures.training_curves, data.curves),
        "harvest": (figures.harvest_yield, data.harvests),
        "cost": (figures.cost, data.costs),
    }
    return {name: figures.svg(draw(*shown)) if shown[0] else "" for name, (draw, *shown) in drawn.items()}


def drawn_group(scores: Sequence[PolicyScore]) -> str:
    """Choose what success is drawn by: the finest group of calls but for the tools; empty without calls."""
    sizes = {(group != "tool", len(found), group) for one in scores for group, found in one.score.by.items()}
    return max(sizes)[-1] if sizes else ""


def policy_tables(data: ReportData) -> Iterator[PolicyTable]:
    """Lay out what else is known of the policies that the figures show, a column each."""
    scores, drawn = [one.score for one in data.main], drawn_group(data.main)
    for group in sorted({name for one in scores for name in one.by} - {drawn}):
        shares = [{share.name: share for share in one.by.get(group, ())} for one in scores]
        rows = []
        for name in sorted({name for found in shares for name in found}):
            n = max(found[name].n for found in shares if name in found)
            cells = [percent(found[name].success) if name in found else "–" for found in shares]
            rows.append((name, f"n = {n}", cells))
        yield f"By {group}", f"all calls of the {group} earned", rows
    if data.lost:
        yield "What was lost, and why", "missed first, in conversations without success", _lost_rows(data)
        yield "How these conversations ended", "in conversations without success", _ending_rows(data)
    rows = [
        ("agent turns a conversation", "", [f"{one.turns:.1f}" for one in scores]),
        ("turns that ended without an answer", "", [percent(one.error_turns) for one in scores]),
        ("calls refused with an error", "", [percent(one.faulty_calls) for one in scores]),
    ]
    yield "In all conversations", "", rows + _counts([one.faults for one in scores])


def _lost_rows(data: ReportData) -> list[tuple[str, str, list[str]]]:
    """Count each policy's lost goals by the call that was missed first and what was done instead, most of all first."""
    by_policy = {one.policy: counted(one.failures) for one in data.lost}
    found = [by_policy.get(one.name, {}) for one in data.main]
    totals = sum((Counter(counts) for counts in found), start=Counter())
    return [
        (tool, why, [str(counts.get((tool, why), 0)) for counts in found]) for (tool, why), _ in totals.most_common()
    ]


def _ending_rows(data: ReportData) -> list[tuple[str, str, list[str]]]:
    """Count each policy's lost goals by how the conversation ended."""
    by_policy = {one.policy: by_ending(one.failures) for one in data.lost}
    found = [by_policy.get(one.name, {}) for one in data.main]
    every = by_ending(failure for one in data.lost for failure in one.failures)
    return [(name, "", [str(counts.get(name, 0)) for counts in found]) for name in every]


def _counts(counts: Sequence[Mapping[str, int]]) -> list[tuple[str, str, list[str]]]:
    names = sorted({name for found in counts for name in found})
    return [(name, "", [str(found.get(name, 0)) for found in counts]) for name in names]


def overall_change(data: ReportData) -> PolicyChange | None:
    """The paired change in success from the first to the last policy on test goals, if it was compared."""
    if len(data.main) < 2:
        return None
    first, last = data.main[0], data.main[-1]
    wanted = (first.name, last.name, "success", "test", first.goals)
    return next((c for c in data.changes if (c.before, c.after, c.metric, c.role, c.goals) == wanted), None)


def headline(data: ReportData, overall: PolicyChange | None) -> str:
    """What the report found, as a title."""
    if not data.main:
        return "No policy has been evaluated yet"
    if overall is None:
        return f"{data.main[-1].goals.score or 'Success'} {percent(data.main[-1].score.success, 0)} before any round"
    measure = f"the {overall.goals.score}" if overall.goals.score else "success"
    change = f"{measure} went from {percent(overall.mean_before, 0)} to {percent(overall.mean_after, 0)}"
    if overall.low > 0:
        return f"The agent got better: {change}"
    if overall.high < 0:
        return f"The agent got worse: {change}"
    return f"No clear change: {change}"


def verdict(data: ReportData, overall: PolicyChange | None) -> str:
    """The finding in one or two sentences, with its interval."""
    if not data.main:
        return "Run josh iterate to evaluate a policy."
    last = data.main[-1]
    if overall is None:
        return (
            f"{last.name} solves {rate_text(last.score)} of {last.score.n} held-out {last.goals.plural}. "
            "Nothing has been trained from search trees yet."
        )
    clear = "excludes zero" if overall.low > 0 or overall.high < 0 else "holds zero"
    text = (
        f"On {overall.n} held-out {last.goals.plural}, {overall.after} against {overall.before}: a paired "
        f"difference of {100 * overall.difference:+.1f} points in success, 95 % interval "
        f"[{100 * overall.low:+.1f}, {100 * overall.high:+.1f}], which {clear}; "
        f"{overall.won} goals won, {overall.lost} lost."
    )
    if last.promoted is False:
        text += f" The gate did not promote {last.name}."
    return text


def cards(data: ReportData, overall: PolicyChange | None) -> list[tuple[str, str, str]]:
    """The report's main numbers: each with what it says, and whether it is ``good`` or ``bad``."""
    if not data.main:
        return []
    first, last = data.main[0], data.main[-1]
    ends = [first] if last is first else [first, last]
    found = [(percent(e.score.success), f"{e.goals.score or 'success'}, {e.name} (n = {e.score.n})", "") for e in ends]
    if overall is not None:
        tone = "good" if overall.low > 0 else "bad" if overall.high < 0 else ""
        label = f"points, paired, 95 % interval [{100 * overall.low:+.1f}, {100 * overall.high:+.1f}]"
        found.append((f"{100 * overall.difference:+.1f}", label, tone))
    if data.drifts and (drift := data.drifts[-1].drift) is not None:
        label = f"nats a token: drift of {data.drifts[-1].name}"
        found.append((nats(drift.mean), label, "bad" if data.drifts[-1].too_far else ""))
    if data.harvests:
        trees, full = sum(h.trees for h in data.harvests), sum(h.full for h in data.harvests)
        found.append((f"{full} of {trees}", "search trees with the full reward", ""))
    if data.ceiling is not None:
        found.append((percent(data.ceiling.share), "user ceiling: what a perfect agent reaches", ""))
    return found


def setting_groups(settings: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Settings as named groups of (name, value), plain ones first."""
    groups: dict[str, list[tuple[str, str]]] = {"run": []}
    for path, value in _flat(settings):
        *group, name = path.split(".", 1)
        groups.setdefault("".join(group) or "run", []).append((name, _value(value)))
    return {name: group for name, group in groups.items() if group}


def _flat(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def all_steps(costs: Sequence[Cost]) -> Cost:
    """All steps together; time that was not recorded is left out."""
    usage = sum((one.usage for one in costs), start=Usage())
    return Cost(0, "all", "together", sum(one.seconds or 0.0 for one in costs), usage)


def _tree_round(data: ReportData) -> str:
    """Where the drawn tree was searched."""
    searched = data.tree.iteration if data.tree else None
    if searched is None:
        return "an iteration before"
    return next((h.name for h in data.harvests if h.iteration == searched), f"iteration {searched}")


def parting(before: Sequence[Bubble], after: Sequence[Bubble]) -> int:
    """Return how many messages two conversations have in common before they part."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    return sum(1 for _ in same)
