"""What is told of a search: siblings that differ, why leaves ended, and what was never earned."""

from fakes import ScriptedPolicy, grow, said

from josh_pipeline.core.environment import Task, WantedCall
from josh_pipeline.search.shape import shape_of


class Prize(WantedCall):
    """A call that is counted under a word of its own."""

    @property
    def label(self) -> str:
        return f"prize {self.parameters['letter']}"


def goal(name: str, prizes: str) -> Task:
    calls = tuple(Prize("get", {"letter": letter}) for letter in prizes)
    return Task(name, name, "", "train", "task", name, (), calls, None)


GOALS = {name: goal(name, "ab") for name in ("won", "half", "lost")}


def test_pairs_of_siblings_are_counted_and_those_that_say_the_same() -> None:
    words = iter(["hm", "well", "hm", "hm"])
    tree = grow(ScriptedPolicy(lambda request: next(words)), goal="lost", beam_size=4, children=4, max_rounds=1)
    shape = shape_of([tree], GOALS)
    assert (shape.pairs, shape.same, shape.distinct) == (6, 3, 0.5)


def test_ends_and_misses_are_those_of_trees_without_full_reward() -> None:
    won = grow(said("GET a", "GET b", "done"), goal="won", beam_size=1, max_rounds=4)
    half = grow(said("GET a", "here"), goal="half", beam_size=1, max_rounds=2)
    lost = grow(said("hm"), goal="lost", beam_size=2, max_rounds=1)
    assert (won.reward, half.earned, lost.reward) == (1.0, (0,), 0.0)
    shape = shape_of([won, half, lost], GOALS)
    assert shape.missed == {"prize b": 2, "prize a": 1}
    assert shape.ends == {"rounds_spent": 3}
    assert not shape_of([won], GOALS).ends and not shape_of([won], GOALS).missed
