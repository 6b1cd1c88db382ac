"""Settings from the options that several commands share."""

import argparse
import os
from typing import Any

from josh_pipeline.settings import Settings
from josh_pipeline.store.home import Home


def quiet_libraries() -> None:
    """Keep model libraries from drawing bars of their own between ours; to be called before they load."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def settings_of(home: Home, options: argparse.Namespace) -> Settings:
    """Lay the options over the profile, or over the settings of the home's last run.

    Raises:
        UserError: no such profile, or a faulty setting.
    """
    overrides: dict[str, Any] = {}
    if options.corpus is not None:
        overrides["corpus"] = {"source": options.corpus}
    if options.seed is not None:
        overrides["seed"] = options.seed
    policy = {name: getattr(options, name) for name in ("model", "endpoint") if getattr(options, name)}
    if policy:
        overrides["policy"] = policy
    return home.settings(options.profile or "", overrides)
