"""Goals that changed hands between two policies, out of the store."""

from typing import Literal

from josh_pipeline.report.data import Example, Played
from josh_pipeline.report.lines import Line
from josh_pipeline.report.load_scores import outcomes
from josh_pipeline.stages.episodes import stored_episodes
from josh_pipeline.stages.goals import stored_goals
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse

KINDS: tuple[tuple[Literal["won", "lost"], bool], ...] = (("won", True), ("lost", False))


def line_examples(warehouse: Warehouse, line: Line) -> list[Example]:
    """Of each round one goal that it won and one that it lost, the last round first.

    They are the first by goal id, not hand-picked.
    """
    return [found for row in reversed(line.rounds) for found in _round_examples(warehouse, line, row)]


def _round_examples(warehouse: Warehouse, line: Line, row: PolicyRow) -> list[Example]:
    before = outcomes(warehouse, row.iteration, "before", "test")
    after = outcomes(warehouse, row.iteration, "after", "test")
    found = []
    for kind, solved_after in KINDS:
        changed = sorted(
            key
            for key in before.keys() & after.keys()
            if (before[key][1], after[key][1]) == (not solved_after, solved_after)
        )
        if changed:
            found.append(_example(warehouse, line, row, kind, changed[0]))
    return found


def _example(
    warehouse: Warehouse, line: Line, row: PolicyRow, kind: Literal["won", "lost"], key: tuple[str, int]
) -> Example:
    ids = {
        found["side"]: found["episode_id"]
        for found in warehouse.rows(
            "SELECT side, episode_id FROM current_episodes WHERE iteration = ? AND role = 'test' "
            "AND goal_id = ? AND trial = ?",
            [row.iteration, *key],
        )
    }

    def played(side: str) -> Played:
        episode = stored_episodes(warehouse, [ids[side]])[0]
        name = line.name_of(episode.policy_digest)
        return Played(name, episode.messages, episode.reward, episode.earned)

    goal = stored_goals(warehouse, row.goals_scope, ids=[key[0]])[0]
    return Example(int(row.iteration), kind, goal, played("before"), played("after"))
