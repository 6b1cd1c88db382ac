"""What docs/toolwoz.md says is what happens."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from toolwoz_town import real_corpus, world_in

from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals
from josh_pipeline.environments.toolwoz.solvability import CAUSES, REPAIRS, misses, repaired_goals
from josh_pipeline.environments.toolwoz.tools import PARAMETERS

PAGE = (Path(__file__).parent.parent / "docs" / "toolwoz.md").read_text()
EXAMPLE = re.compile(r"^\| `(\w+)` \| `(\{.*\})` \| (.*) \| (.*) \|$", re.MULTILINE)


@pytest.mark.parametrize("semantics", ["paper", "audited"])
def test_the_worked_examples_return_and_earn_what_the_page_says(semantics):
    corpus = real_corpus()
    goal = next(g for g in derive_goals(corpus, semantics) if g.dialogue_id == "MUL0013")
    examples = EXAMPLE.findall(PAGE)
    assert len(examples) == 9
    for tool, arguments, returned, reward in examples:
        world = world_in(corpus, goal, semantics)
        payload = world.call(tool, json.loads(arguments)).payload
        name = payload["rows"][0]["name"] if "rows" in payload else payload["entity"]
        assert (name or "nothing") == returned
        assert world.outcome(()) == pytest.approx(float(Fraction(reward)))


def test_the_page_names_every_tool_parameter_reason_cause_and_repair():
    for tool, parameters in PARAMETERS.items():
        assert f"| `{tool}` | {', '.join(parameters) or 'none; never rewarded'} |" in PAGE
    for name in (*REASONS, *CAUSES, *REPAIRS):
        assert f"`{name}`" in PAGE


def test_the_pages_counts_are_those_of_the_real_validation_list():
    corpus = real_corpus()
    for name, dialogues in repaired_goals(corpus).items():
        assert re.search(rf"^\| `{name}` \|.*\| {len(dialogues)} \|$", PAGE, re.MULTILINE)
    causes = [miss.cause for miss in misses(corpus)]
    for cause in set(causes):
        assert re.search(rf"^\| {causes.count(cause)} \| `{cause}`", PAGE, re.MULTILINE)
