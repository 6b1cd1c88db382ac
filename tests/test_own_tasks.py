"""Tasks of a class of one's own, the user who says their script, and the scripted agent."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from own_classes import Counter as Counting

from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Message
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.promises import kept_tasks
from josh_pipeline.core.user import UserReply
from josh_pipeline.dialogue.demonstrations import demonstrate, user_ceiling
from josh_pipeline.dialogue.users import make_user
from josh_pipeline.environments.own.environment import OwnEnvironment, OwnSettings, environment_of
from josh_pipeline.environments.own.talk import FAREWELL, GAVE_UP, ScriptReader
from josh_pipeline.environments.own.tasks import Line, OwnTask, read_tasks

SCRIPT = (Line("I want to count."), Line("To three.", "how far"), Line("Is that all?"))
TASK = {
    "id": "three",
    "kind": "count",
    "goal": 3,
    "script": ["I want to count.", {"say": "To 3.", "when": "how far"}, "Is that all?"],
    "calls": [{"tool": "add", "arguments": {"number": 3}}],
}


def with_tasks(*tasks: Any) -> OwnEnvironment:
    class Listed(Counting):
        """You count."""

    Listed.tasks = list(tasks)  # type: ignore[attr-defined]
    return environment_of(Listed)(OwnSettings(name="listed:Listed"))


def refused(*tasks: Any) -> str:
    with pytest.raises(UserError) as fault:
        with_tasks(*tasks).tasks()
    return str(fault.value)


def test_reserved_keys_are_the_tasks_and_all_others_are_for_reset() -> None:
    task = with_tasks(TASK).tasks()[0]
    assert isinstance(task, OwnTask)
    assert (task.source_id, task.title, task.given) == ("three", "count three", {"goal": 3})
    assert task.message == ("I want to count.", "To 3.", "Is that all?")
    assert task.solution[0].parameters == {"number": 3} and task.calls == ()


def test_roles_that_no_task_names_are_drawn_by_a_hash_and_it_says_so() -> None:
    environment = with_tasks({"text": "Hi.", "role": "val"}, *({"text": f"Number {n}."} for n in range(400)))
    found = Counter(task.role for task in kept_tasks(environment)[1:])
    assert 160 < found["train"] < 240 and 55 < found["val"] < 105 and 90 < found["test"] < 150
    assert environment.roles_sentence().startswith("400 of 401 tasks name no role: theirs is drawn 50 : 20 : 30 by")


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ((), "Listed has no tasks: name a file of JSON lines in the setting tasks, or list them."),
        ((TASK, TASK), "Task 2 of Listed has the id 'three' of Task 1 of Listed: give each task its own id."),
        (("three",), "Task 1 of Listed is no task: write an object"),
        (({"goal": 3},), "Task 1 of Listed lets the user begin with nothing: give message, text"),
        ((TASK | {"role": "dev"},), "has the role 'dev': use train, val, test."),
        ((TASK | {"id": 3},), "has a id that is no text"),
        ((TASK | {"calls": [{"name": "add"}]},), "has calls of another form than"),
        ((TASK | {"script": [{"when": "how far"}]},), "has a script of another form than"),
        ((TASK | {"script": [{"say": "Hi.", "when": "x"}]},), "lets the user begin with nothing"),
        ((TASK | {"message": "Hi."},), "has a script and a message"),
        ((TASK | {"goal": {1}},), "holds what JSON cannot"),
    ],
)
def test_a_task_that_cannot_be_is_named_in_one_sentence(tasks: tuple[Any, ...], said: str) -> None:
    assert said in refused(*tasks)


def test_tasks_are_read_from_a_file_whose_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(f"{json.dumps(TASK)}\n\n{json.dumps(TASK | {'id': 'four', 'goal': 4})}\n")
    settings = OwnSettings(name="own_classes:Counter", tasks=str(file))
    assert [task.source_id for task in environment_of(Counting)(settings).tasks()] == ["three", "four"]
    file.write_text(f"{json.dumps(TASK)}\n{{'id'\n")
    with pytest.raises(UserError, match=r"Line 2 of tasks.jsonl is not JSON \("):
        read_tasks(Counting, file)
    file.write_text(f"{json.dumps(TASK)}\n{json.dumps(TASK)}\n")
    with pytest.raises(UserError, match=r"Line 2 of tasks.jsonl has the id 'three' of Line 1 of tasks.jsonl"):
        read_tasks(Counting, file)
    with pytest.raises(UserError, match=r"absent.jsonl cannot be read \(No such file or directory\): name a file"):
        read_tasks(Counting, tmp_path / "absent.jsonl")


def test_an_edited_file_of_tasks_is_another_environment(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    settings = OwnSettings(name="own_classes:Counter", tasks=str(file))
    digests = set()
    for goal in (3, 4):
        file.write_text(json.dumps(TASK | {"goal": goal}))
        digests.add(environment_of(Counting)(settings).digest)
    assert len(digests) == 2


def answers(*speeches: str, max_turns: int = 8) -> list[UserReply]:
    """What the reader of the script answers to nothing, and to each speech after it."""
    user, talk, found = ScriptReader(SCRIPT, max_turns), (), []
    for speech in (*speeches, None):
        reply = asyncio.run(user.reply(talk))
        found.append(reply)
        talk += (Message("user", reply.text), Message("assistant", speech or ""))
    return found


def test_the_user_holds_details_back_until_they_are_asked_for() -> None:
    said = [reply.text for reply in answers("How far?", "Three.", "Yes.")]
    assert said == ["I want to count.", "To three.", "Is that all?", FAREWELL]
    assert [reply.text for reply in answers("Sure.", "Yes.")] == ["I want to count.", "Is that all?", FAREWELL]


def test_the_user_repeats_what_is_asked_again_and_gives_up_in_the_end() -> None:
    assert [reply.text for reply in answers("How far?", "How far again?")][1:] == ["To three.", "To three."]
    last = answers(*["How far?"] * 3, max_turns=3)[-1]
    assert (last.text, last.done) == (GAVE_UP, True)


def test_with_user_none_the_message_is_all_that_is_said() -> None:
    environment = with_tasks({"text": "Three, please."})
    user = make_user(environment, environment.tasks()[0], "none", 8, 0, None)
    opening = asyncio.run(user.reply(()))
    assert opening == UserReply("Three, please.", done=False)
    assert asyncio.run(user.reply((Message("user", "Three, please."), Message("assistant", "3")))).done


def test_the_oracle_makes_the_listed_calls_else_those_of_the_class() -> None:
    environment = with_tasks(TASK, {"text": "Four.", "goal": 4}, TASK | {"id": "wrong", "goal": 5})
    found = [solved_by_oracle(environment, task) for task in environment.tasks()]
    assert [one is not None and one.solvable for one in found] == [True, True, False]


def test_the_careful_script_solves_all_and_the_careless_one_errs_at_the_given_rates() -> None:
    tasks = [
        TASK | {"id": str(n), "calls": [{"tool": "add", "arguments": {"number": 3, "how": "up"}}]} for n in range(200)
    ]
    environment = with_tasks(*tasks)
    limits = {"max_turns": 8, "max_messages": 15, "max_requests": 3}
    ceiling = asyncio.run(user_ceiling(environment, environment.tasks(), lambda task: 0, **limits))
    assert ceiling is not None and ceiling.share == 1.0
    careless = Carelessness(claimed=0.4, dropped=0.3, denied=0.2)
    written = asyncio.run(demonstrate(environment, environment.tasks(), careless, 0, 8))
    made = [one for one in written if any(message.tool_calls for message in one.conversation)]
    assert 0.3 < 1 - len(made) / 200 < 0.5, "claimed"
    full = [one for one in made if all(len(c.arguments) == 2 for m in one.conversation for c in m.tool_calls)]
    assert 0.2 < 1 - len(full) / len(made) < 0.4, "dropped"
    denied = [one for one in full if any(message.content.startswith("Sorry") for message in one.conversation)]
    assert 0.1 < len(denied) / len(full) < 0.3, "denied"
