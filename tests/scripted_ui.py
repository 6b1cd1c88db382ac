"""``josh ui`` on the definitions of ``scripted_definitions.py``: ``scripted_ui.py ARGUMENT...``."""

import sys
from pathlib import Path

from assets import ui
from assets.cli import run

real_command = ui.dagster_dev


def scripted(host: str, port: int, workspace: Path) -> list[str]:
    """The same command, with the workspace that lies beside this file."""
    return real_command(host, port, Path(__file__).with_name("workspace.yaml"))


if __name__ == "__main__":
    ui.dagster_dev = scripted
    sys.exit(run(["ui", *sys.argv[1:]]))
