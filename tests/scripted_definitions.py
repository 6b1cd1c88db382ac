"""The project's definitions for a real daemon: a scripted policy plays, and the schedule ticks each minute.

Dagster's code server and every process of a run load this module, so that they play with the same script.
"""

import dagster as dg
import pytest
from tiny_loop import play_with

import assets.definitions
from assets.automation import retraining

SKILL = 0.8

play_with(pytest.MonkeyPatch(), lambda digest: SKILL)

defs = dg.Definitions(
    assets=assets.definitions.defs.assets,
    jobs=assets.definitions.defs.jobs,
    schedules=[retraining("* * * * *")],
    sensors=assets.definitions.defs.sensors,
    resources=assets.definitions.defs.resources,
    executor=assets.definitions.defs.executor,
)
