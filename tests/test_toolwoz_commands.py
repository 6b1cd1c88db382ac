"""The commands that list goals, replay calls and count what can be solved."""

import io
import json
import random

import pytest
from corpus_layouts import write_corpus
from toolwoz_town import INDIAN, RESTAURANTS, RIDE, corpus_of, dialogue, dinner, environment_of, real_corpus

from josh_pipeline.cli.environment import goal_records, replay_lines
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.environments.toolwoz.solvability import counts as counts_of
from josh_pipeline.environments.toolwoz.solvability import write_counts
from josh_pipeline.environments.toolwoz.tools import PARAMETERS

TAXI = dialogue({"taxi": {"info": {"departure": "ely"}}}, dialogue_id="TAXI")
NOWHERE = dialogue({"restaurant": {"info": {"food": "none"}}}, dialogue_id="NOWHERE", split="test")
RIDER = dialogue({"train": {"info": RIDE}}, dialogue_id="RIDER")
CORPUS = corpus_of(dinner(), TAXI, NOWHERE)


def listed(corpus, split, semantics):
    """Through JSON, as it is printed."""
    return json.loads(json.dumps(goal_records(environment_of(corpus, semantics), split)))


def replayed(lines, corpus=CORPUS, semantics="audited"):
    out = io.StringIO()
    replay_lines(environment_of(corpus, semantics), lines, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def line(dialogue_id, *calls):
    made = [{"tool": tool, "arguments": arguments} for tool, arguments in calls]
    return json.dumps({"dialogue_id": dialogue_id, "calls": made}) + "\n"


def test_goals_are_a_line_each_with_every_field():
    first, second = listed(CORPUS, None, "audited")
    assert first == {
        "goal_id": derive_goals(CORPUS, "audited")[0].goal_id,
        "dialogue_id": "MUL0001",
        "split": "val",
        "domains": ["restaurant"],
        "message": [],
        "calls": [
            {"tool": "search_restaurant", "parameters": INDIAN, "entity": {"name": "tandoori palace"}},
            {
                "tool": "book_restaurant",
                "parameters": {"time": "18:00", "day": "monday", "people": "2", "name": "tandoori palace"},
                "entity": {"name": "tandoori palace", "reference": "R1"},
            },
        ],
        "excluded": None,
    }
    assert (second["dialogue_id"], second["excluded"]) == ("NOWHERE", "no_entity")
    assert second["calls"][0]["entity"] is None


def test_goals_of_one_list_and_of_a_list_that_does_not_exist():
    assert [goal["dialogue_id"] for goal in listed(CORPUS, "test", "paper")] == ["NOWHERE"]
    with pytest.raises(UserError, match="use --split with test or val"):
        listed(CORPUS, "train", "paper")


def test_replay_answers_results_earned_tools_and_reward():
    booking = {"time": "18:00", "day": "monday", "people": "2", "name": "tandoori palace"}
    (answer,) = replayed(
        [line("MUL0001", ("book_restaurant", booking), ("search_restaurant", INDIAN), ("book_bus", {}))]
    )
    assert answer["dialogue_id"] == "MUL0001"
    assert answer["results"][0] == {"success": True, "entity": "tandoori palace", "reference": "R1"}
    assert answer["results"][1] == {"rows": [RESTAURANTS[5]]}
    assert list(answer["results"][2]) == ["error"]
    assert answer["earned"] == ["search_restaurant", "book_restaurant"]
    assert answer["reward"] == 1.0


def test_every_line_starts_from_nothing():
    lines = [line("MUL0001.json", ("search_restaurant", INDIAN)), line("MUL0001")]
    assert [answer["reward"] for answer in replayed(lines)] == [0.5, 0.0]


def test_a_dialogue_may_be_named_by_its_general_name_too():
    named = line("MUL0001", ("search_restaurant", INDIAN))
    assert replayed([named.replace("dialogue_id", "source_id")]) == replayed([named])


MALFORMED = [
    "",
    "\n",
    "not json",
    "[]",
    "null",
    '"text"',
    "[" * 100_000,
    "9" * 5_000,
    "{}",
    '{"dialogue_id": "MUL0001"}',
    '{"dialogue_id": 3, "calls": []}',
    '{"dialogue_id": "MUL0001", "calls": {}}',
    '{"dialogue_id": "MUL0001", "calls": [3]}',
    '{"dialogue_id": "MUL0001", "calls": [{"tool": "search_hotel"}]}',
    '{"dialogue_id": "MUL0001", "calls": [{"arguments": {}}]}',
    '{"dialogue_id": "nobody", "calls": []}',
    '{"dialogue_id": "\\ud800", "calls": []}',
    line("TAXI"),
    line("NOWHERE"),
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_line_gives_its_number_and_one_sentence(text):
    good = line("MUL0001")
    before, answer, after = replayed([good, text, good])
    assert set(answer) == {"line", "error"}
    assert answer["line"] == 2
    assert 0 < len(answer["error"]) < 300
    assert before["reward"] == after["reward"] == 0.0


@pytest.mark.parametrize("semantics", ["paper", "audited"])
@pytest.mark.parametrize("arguments", [None, 3, "x", [INDIAN], True, {"food": None}, {"food": {"a": []}}])
def test_arguments_of_any_kind_are_answered(arguments, semantics):
    (answer,) = replayed([line("MUL0001", ("search_restaurant", arguments), (7, arguments))], semantics=semantics)
    assert len(answer["results"]) == 2
    assert answer["reward"] == 0.0


def test_standard_input_may_hold_any_byte(tmp_path, monkeypatch, capsys):
    write_corpus(sample_corpus(20, 0), tmp_path)
    corpus = read_corpus(str(tmp_path), tmp_path)
    good = next(goal for goal in derive_goals(corpus, "audited") if goal.excluded is None)
    lines = line(good.dialogue_id).encode() + b'{"dialogue_id": "\xff"}\n' + line(good.dialogue_id).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
    assert main(["replay", "-", "--corpus", str(tmp_path)]) == 0
    before, answer, after = map(json.loads, capsys.readouterr().out.splitlines())
    assert answer["line"] == 2 and before == after


def test_standard_input_may_be_no_file(tmp_path, monkeypatch, capsys):
    write_corpus(sample_corpus(20, 0), tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("not json\n"))
    assert main(["replay", "-", "--corpus", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["line"] == 1


def test_replay_streams():
    def endless():
        while True:
            yield line("MUL0001")

    class FullError(Exception):
        pass

    class Full(io.StringIO):
        def write(self, text):
            if super().tell() > 1000:
                raise FullError
            return super().write(text)

    with pytest.raises(FullError):
        replay_lines(environment_of(CORPUS), endless(), Full())


def test_replay_answers_random_calls_one_in_ten_malformed_line_for_line():
    rng = random.Random(0)
    values = ["indian", "west", None, 3, ["x"], "dontcare", "10:00", "Zoë", {"a": 1}]

    def random_line():
        if rng.random() < 0.1:
            return rng.choice(MALFORMED[:5])
        tool = rng.choice(list(PARAMETERS))
        names = [name for name in (*PARAMETERS[tool], "bogus") if rng.random() < 0.5]
        return line("MUL0001", (tool, {name: rng.choice(values) for name in names}))

    lines = [random_line() for _ in range(2_000)]
    for semantics in ("paper", "audited"):
        answers = replayed(lines, corpus_of(dinner()), semantics)
        assert len(answers) == len(lines)
        assert [a.get("line", i) for i, a in enumerate(answers, 1)] == list(range(1, 2_001))


def test_solvability_prints_the_table_and_the_same_counts_as_json():
    corpus = corpus_of(dinner("curry garden", fail_info={"area": "centre"}), NOWHERE, RIDER)
    counts = counts_of(corpus)
    assert counts["paper"]["goals"] == 3
    assert (counts["audited"]["usable"], counts["audited"]["oracle_solves"]) == (2, 2)
    assert counts["paper"]["lists"]["val"] == {"goals": 2, "usable": 2, "oracle_solves": 1}
    assert counts["audited"]["excluded"] == {"NOWHERE": "no_entity"}
    assert counts["causes"] == {"violating_entity": 1, "no_entity": 1}
    assert counts["repairs"] == {"normalised": 0, "inclusive": 0, "target": 2, "hidden": 1}
    out = io.StringIO()
    write_counts(corpus, out)
    assert "val    goals 2, the oracle solves 1 of 2" in out.getvalue()
    assert "excluded: NOWHERE: no_entity" in out.getvalue()
    assert "violating_entity: The booked entity" in out.getvalue()


def test_solvability_is_a_command_of_josh_that_toolwoz_brings(tmp_path, capsys):
    write_corpus(sample_corpus(20, 0), tmp_path)
    assert main(["solvability", "--corpus", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == counts_of(read_corpus(str(tmp_path), tmp_path))
    assert main(["solvability", "--corpus", str(tmp_path)]) == 0
    assert "paper\n  train  goals" in capsys.readouterr().out


def test_goals_of_other_corpora_and_semantics_are_had_by_options(tmp_path, capsys):
    write_corpus(sample_corpus(20, 0), tmp_path)
    assert main(["goals", "--env", "toolwoz", "--corpus", str(tmp_path), "--semantics", "paper"]) == 0
    ids = [json.loads(text)["goal_id"] for text in capsys.readouterr().out.splitlines()]
    assert ids == [goal.goal_id for goal in derive_goals(read_corpus(str(tmp_path), tmp_path), "paper")]


def test_semantics_that_do_not_exist_are_one_sentence(capsys):
    assert main(["goals", "--semantics", "fair"]) == 1
    assert "goals.semantics: Input should be 'audited' or 'paper'" in capsys.readouterr().err


def test_replies_change_nothing_where_no_word_is_rewarded():
    spoken = json.loads(line("MUL0001", ("search_restaurant", INDIAN))) | {"replies": ["Hello.", "Bye."]}
    plain, answer, broken = replayed(
        [line("MUL0001", ("search_restaurant", INDIAN)), json.dumps(spoken), json.dumps(spoken | {"replies": [3]})]
    )
    assert answer == plain
    assert broken == {"line": 3, "error": "The replies are not a list of texts."}


def test_the_counts_of_the_real_validation_list(record_property):
    counts = counts_of(real_corpus())
    for semantics in ("paper", "audited"):
        record_property(f"real validation list, {semantics}", counts[semantics]["lists"]["val"])
    record_property("causes of what the oracle misses under paper", counts["causes"])
    record_property("goals that each repair changes", counts["repairs"])
    assert counts["paper"]["calls"] == {"1": 68, "2": 254, "3": 349, "4": 122}
    assert counts["paper"]["lists"] == {"val": {"goals": 793, "usable": 793, "oracle_solves": 755}}
    assert counts["audited"]["oracle_solves"] == counts["audited"]["usable"] == 792
    assert len(counts["missed"]) == 39
