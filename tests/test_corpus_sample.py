"""The sample corpus: the same every time, varied, and every goal of it can be solved."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from toolwoz_town import environment_of, through_the_store

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.toolwoz.corpus import Corpus, Dialogue
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.environments.toolwoz.settings import CorpusSettings, ToolWozSettings
from josh_pipeline.environments.toolwoz.solvability import solvability

DOMAINS = ("hotel", "restaurant", "attraction", "train")
CORPUS = sample_corpus(700, 0)


def parts(corpus: Corpus = CORPUS) -> list[tuple[Dialogue, str, Mapping[str, Any]]]:
    return [(d, domain, d.goal[domain]) for d in corpus.dialogues for domain in DOMAINS if d.goal[domain]]


def eligible_parts() -> list[tuple[str, str]]:
    return [(d.dialogue_id, domain) for d, domain, _ in parts() if not d.goal["taxi"]]


def satisfying(corpus: Corpus, domain: str, info: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """A query written anew: HH:MM strings of the same length compare as times do."""

    def fits(row: Mapping[str, Any], slot: str, value: str) -> bool:
        if slot == "leaveAt":
            return bool(row[slot] >= value)
        return bool(row[slot] <= value if slot == "arriveBy" else row[slot] == value)

    return [row for row in corpus.databases[domain] if all(fits(row, *item) for item in info.items())]


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    again = sample_corpus(700, 0)
    assert again == CORPUS
    other = sample_corpus(700, 1)
    assert other.digest != CORPUS.digest and other.name != CORPUS.name
    assert other.databases == CORPUS.databases


def test_the_first_corpus_ever_generated_is_still_the_same() -> None:
    assert sample_corpus(20, 0).digest == "e215e07ae1e1296b"  # another digest: other goals, scores not comparable


def test_the_digest_of_the_sample_is_computed_anew_from_what_was_stored_and_that_of_files_is_not() -> None:
    corpus = through_the_store(CORPUS)
    assert environment_of(corpus).check_digest() == CORPUS.digest
    forged = replace(corpus.dialogues[0], goal={**corpus.dialogues[0].goal, "message": ["Anything."]})
    altered = replace(corpus, dialogues=(forged, *corpus.dialogues[1:]))
    assert environment_of(altered).check_digest() not in (None, CORPUS.digest)
    assert environment_of(replace(corpus, source="/a/folder")).check_digest() is None


def test_a_longer_corpus_begins_with_the_shorter_one() -> None:
    short = {d.dialogue_id: d for d in sample_corpus(40, 0).dialogues}
    long = {d.dialogue_id: d for d in CORPUS.dialogues}
    assert all(long[key] == dialogue for key, dialogue in short.items())


def test_the_source_sample_is_the_built_in_corpus(tmp_path: Any) -> None:
    settings = ToolWozSettings(corpus=CorpusSettings(sample_dialogues=40, sample_seed=3))
    assert ToolWoz.read(settings, tmp_path, SilentProgress()).corpus == sample_corpus(40, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 20, 100])
def test_any_size_can_be_had(size: int) -> None:
    assert len({d.dialogue_id for d in sample_corpus(size, 0).dialogues}) == size


def test_splits_hold_60_15_and_25_percent() -> None:
    assert Counter(d.split for d in CORPUS.dialogues) == {"train": 420, "val": 105, "test": 175}


def test_databases_have_multiwoz_columns_and_unique_ids() -> None:
    assert {domain: len(rows) for domain, rows in CORPUS.databases.items()} == {
        "restaurant": 110,
        "hotel": 35,
        "attraction": 80,
        "train": 1512,
    }
    columns = {
        "restaurant": "address area food id introduction location name phone postcode pricerange type",
        "hotel": "address area id internet location name parking phone postcode price pricerange stars "
        "takesbookings type",
        "attraction": "address area entrance fee id location name openhours phone postcode pricerange type",
        "train": "arriveBy day departure destination duration leaveAt price trainID",
    }
    for domain, rows in CORPUS.databases.items():
        assert all(" ".join(sorted(row)) == columns[domain] for row in rows)
        key = "trainID" if domain == "train" else "name"
        assert len({row[key] for row in rows}) == len(rows)


def test_names_are_short_plain_and_of_one_place_only() -> None:
    names = [row["name"] for d in ("hotel", "restaurant", "attraction") for row in CORPUS.databases[d]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+){1,2}", name) for name in names)


def test_every_request_has_an_answer_and_every_failing_one_has_none() -> None:
    failing = Counter[str]()
    for _, domain, goal in parts():
        assert satisfying(CORPUS, domain, goal["info"])
        if goal["fail_info"]:
            failing[domain] += 1
            assert goal["fail_info"].keys() == goal["info"].keys()
            assert not satisfying(CORPUS, domain, goal["fail_info"])
    assert failing.keys() == {"hotel", "restaurant", "attraction"}
    assert min(failing.values()) > 30


def test_what_was_booked_satisfies_the_goal() -> None:
    booked = 0
    for dialogue, domain, goal in parts():
        record = dialogue.log[-1]["metadata"][domain]["book"]["booked"]
        assert bool(record) == ("book" in goal)
        if record:
            booked += 1
            key = "trainID" if domain == "train" else "name"
            assert record[-1][key] in [row[key] for row in satisfying(CORPUS, domain, goal["info"])]
            assert re.fullmatch(r"[A-Z0-9]{8}", record[-1]["reference"])
    assert booked > 400


@pytest.mark.parametrize("semantics", ["audited", "paper"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_perfect_agent_solves_every_goal(semantics: Semantics, parts: bool) -> None:
    goals = derive_goals(CORPUS, semantics, parts)
    verdicts = solvability(CORPUS, semantics, goals)
    assert len(verdicts) == len(goals) == (len(eligible_parts()) if parts else len({d for d, _ in eligible_parts()}))
    assert [goal.goal_id for goal, verdict in verdicts if not verdict.solvable] == []


def test_times_in_goals_are_quarters_of_an_hour_that_no_train_keeps() -> None:
    limits = [v for _, _, g in parts() for k, v in g["info"].items() if k in ("leaveAt", "arriveBy")]
    assert limits and all(re.fullmatch(r"([01]\d|2[0-3]):(00|15|30|45)", value) for value in limits)
    for row in CORPUS.databases["train"]:
        assert int(row["leaveAt"][3:]) % 15 and int(row["arriveBy"][3:]) % 15


def test_goals_have_the_paper_s_mix_of_calls() -> None:
    calls = Counter[int]()
    sizes = Counter[int]()
    for dialogue in sample_corpus(1500, 5).dialogues:
        goals = [dialogue.goal[domain] for domain in DOMAINS if dialogue.goal[domain]]
        if not dialogue.goal["taxi"]:
            calls[sum(1 + ("book" in goal) for goal in goals)] += 1
            sizes[len(goals)] += 1
    shares = {count: calls[count] / calls.total() for count in (1, 2, 3, 4)}
    assert shares == pytest.approx({1: 73 / 805, 2: 293 / 805, 3: 336 / 805, 4: 103 / 805}, abs=0.04)
    assert sizes[2] > 0.7 * sizes.total() and sizes.keys() == {1, 2, 3}


def test_some_dialogues_are_ineligible() -> None:
    taxi = [d for d in CORPUS.dialogues if d.goal["taxi"]]
    assert 0.03 < len(taxi) / 700 < 0.1


def test_each_domain_has_hundreds_of_different_goals() -> None:
    different: dict[str, set[str]] = {domain: set() for domain in DOMAINS}
    for _, domain, goal in parts():
        different[domain].add(json.dumps(goal, sort_keys=True))
    assert all(len(goals) > 200 for goals in different.values())


def test_instructions_name_every_value_that_is_asked_for() -> None:
    for dialogue, domain, goal in parts():
        message = " ".join(dialogue.goal["message"])
        marked = re.findall(r"<span class='emphasis'>(.*?)</span>", message)
        told = " ".join(marked)
        wanted = {**(goal["fail_info"] or goal["info"]), **goal["info"]}
        wanted |= {k: v for k, v in goal.get("book", {}).items() if isinstance(v, str)}
        wanted |= goal.get("fail_book", {})
        for slot, value in wanted.items():
            if slot in ("internet", "parking"):
                value = "free wifi" if slot == "internet" else "free parking"
            assert value in told, (dialogue.dialogue_id, domain, slot, value)


def test_turns_alternate_and_system_turns_carry_the_belief_state() -> None:
    for dialogue in CORPUS.dialogues:
        assert len(dialogue.log) >= 4 and len(dialogue.log) % 2 == 0
        assert all(turn["metadata"] == {} for turn in dialogue.log[::2])
        for domain in DOMAINS:
            state = dialogue.log[-1]["metadata"][domain]["semi"]
            info = dialogue.goal[domain].get("info", {})
            assert {slot: state[slot] for slot in info} == info
            assert set(state.values()) - set(info.values()) <= {"", "not mentioned", state.get("name")}
