"""``josh`` with a scripted policy whose answers take their time: ``slow_josh.py DELAY ARGUMENT...``."""

import sys

import pytest
from tiny_loop import play_with

from assets.cli import run

if __name__ == "__main__":
    play_with(pytest.MonkeyPatch(), lambda digest: 0.8, delay=float(sys.argv[1]))
    sys.exit(run(sys.argv[2:]))
