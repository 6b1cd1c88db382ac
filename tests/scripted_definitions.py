"""The project's definitions for a real daemon: a scripted policy plays.

Dagster's code server and every process of a run load this module, so that they play with the same script.
"""

import dagster as dg
import pytest
from tiny_loop import play_with

import assets.definitions

SKILL = 0.8

play_with(pytest.MonkeyPatch(), lambda digest: SKILL)

defs = dg.Definitions(
    assets=assets.definitions.defs.assets,
    jobs=assets.definitions.defs.jobs,
    schedules=assets.definitions.defs.schedules,
    sensors=assets.definitions.defs.sensors,
    resources=assets.definitions.defs.resources,
    executor=assets.definitions.defs.executor,
)
