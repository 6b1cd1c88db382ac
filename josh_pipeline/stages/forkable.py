"""``josh check-env`` as two checks of stage goals: what a search relies on, and what only costs it branches."""

from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.environment import Environment
from josh_pipeline.core.progress import Progress
from josh_pipeline.environments.check import PROMISES, Checked, Finding, check_environment
from josh_pipeline.stages.stage import Check, RefusedError, Verdict

CHECKED_TASKS = 6
"""One for each role, and for two kinds of tasks: about a second. ``josh check-env`` plays as many as it is told."""

FORKABLE, SOUND = (
    Check(name, " ".join(one.holds for one in PROMISES if one.forkable is forkable), blocking=forkable)
    for name, forkable in (("environment_forkable", True), ("environment_sound", False))
)


def environment_verdicts(environment: Environment[Any], progress: Progress) -> Mapping[str, Verdict]:
    """Play, fork and question some tasks, before any is searched.

    Raises:
        RefusedError: trees and rewards of this environment would be wrong.
    """
    found = check_environment(environment, CHECKED_TASKS, progress)
    forkable = verdict_on(found, found.of(forkable=True))
    if not forkable.passed:
        raise RefusedError(FORKABLE.name, forkable)
    return {FORKABLE.name: forkable, SOUND.name: verdict_on(found, found.of(forkable=False))}


def verdict_on(found: Checked, findings: Sequence[Finding]) -> Verdict:
    """Put findings of a check into one verdict."""
    broken = [one.sentence for one in findings if not one.passed]
    numbers: dict[str, Any] = {
        "tasks played": sum(found.played.values()),
        "scripts played": found.scripts,
        "promises": [{"promise": one.promise.name, "kept": one.passed, "finding": one.sentence} for one in findings],
    }
    if found.fork is not None:
        numbers |= {"milliseconds a fork": round(found.fork.milliseconds, 4), "bytes a fork": found.fork.bytes}
    kept = f"All {len(findings)} promises hold in {found.scripts} scripts on {numbers['tasks played']} tasks."
    return Verdict(not broken, " ".join(broken) or kept, numbers)
