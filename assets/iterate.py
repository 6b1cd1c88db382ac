"""``josh iterate``: the whole loop, through Dagster, in this process."""

import argparse
from collections.abc import Callable

from rich.console import Console

from josh_pipeline.cli.options import quiet_libraries, settings_of
from josh_pipeline.cli.show import print_scores
from josh_pipeline.core.locks import alone
from josh_pipeline.core.progress import SilentProgress, TerminalProgress
from josh_pipeline.evaluation.playing import require_endpoints
from josh_pipeline.report.export_model import export_command
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.promotion import newest_promotion, promoted
from josh_pipeline.stages.registry import BY_NAME, missing_preparation, open_home, preparing
from josh_pipeline.stages.runnable import require_runnable
from josh_pipeline.stages.stage import Step, corpus_scope
from josh_pipeline.store.home import Home

RunJob = Callable[[str, str | None, list[str] | None], None]
HARVEST_ONLY = [BY_NAME[name].asset for name in ("policy", "rollouts", "labels", "preferences")]
"""With an endpoint's policy: its weights are not here, so nothing is trained."""


def command(options: argparse.Namespace) -> int:
    """Run iterations, print the scores, write the report."""
    quiet_libraries()
    home = open_home(options.home)
    settings = settings_of(home, options)
    require_runnable(settings)
    require_endpoints(settings)
    with alone(home.root / "iterate.lock", f"Another josh iterate works in {home.root}: wait, or stop it."):
        before = newest_promotion(home.warehouse())
        refused = iterate(home, settings, options.iterations, Console(stderr=True))
    # Imported where it is used: figures take half a second, and a mistake in the options should not.
    from josh_pipeline.report.html import write_report

    print_scores(home)
    print(f"Report: {write_report(home.warehouse(), home.reports)}")
    newest = newest_promotion(home.warehouse())
    if newest != before and newest is not None and newest["adapter_digest"] is not None:
        print(f"Model: {export_command(home, newest['policy_digest'])}")
    return 1 if refused and options.require_promotion else 0


def iterate(home: Home, settings: Settings, iterations: int, console: Console) -> bool:
    """Run up to ``iterations`` iterations of a home; returns whether a candidate was refused."""
    # Imported where it is used: Dagster takes seconds, and a mistake in the options should not.
    from assets.launch import instance_of, run_job

    step = Step(home, home.warehouse(), settings, run_id="", progress=SilentProgress())
    digest = home.keep_settings(settings)
    with instance_of(home) as instance, TerminalProgress(console) as progress:

        def run(job: str, partition: str | None, assets: list[str] | None = None) -> None:
            run_job(instance, job, digest, partition, assets, progress)

        if settings.policy.endpoint is not None:
            progress.note(
                f"The weights of {settings.policy.model!r} are at an endpoint and cannot be trained here: "
                "it is evaluated, and one iteration is searched and harvested."
            )
        missing = missing_preparation(step)
        if missing:
            progress.note(preparing(settings, missing))
            run("prepare", None, [stage.asset for stage in missing])
        # Only now: settings whose corpus or model cannot be had are not to be gone on with.
        home.remember_settings(settings)
        refused = False
        for _ in range(iterations):
            key, refused = _one(step, run, progress.note)
            if refused or settings.policy.endpoint is not None:
                break
        environment = stored_environment(step.warehouse, settings.environment, corpus_scope(settings), sources=False)
        published = environment.headline != environment.played
        if published and settings.evaluation.whole_goals and not settings.policy.endpoint:
            run("whole_goals", key)
    return refused


def _one(step: Step, run: RunJob, say: Callable[[str], None]) -> tuple[str, bool]:
    """Run one iteration; returns its key, and whether its candidate was refused."""
    key, is_baseline = coming_iteration(step)
    if is_baseline:
        say(f"Iteration {key}: evaluation of the base")
        run("baseline", None, None)
        key, _ = coming_iteration(step)
    if step.settings.policy.endpoint is not None:
        say(f"Iteration {key}: rollouts and harvest")
        run("iteration", key, HARVEST_ONLY)
        return key, False
    say(f"Iteration {key}")
    run("iteration", key, None)
    accepted, reason = promoted(step, key)
    say(f"Iteration {key} {'promoted' if accepted else 'not promoted'}. {reason}")
    return key, not accepted
