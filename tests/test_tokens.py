"""What is trained, whatever the chat template: the words of the assistant, in the tokens that were sampled."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from chat_templates import TEMPLATES, template_folder

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.evaluation.drift import _tokenised, general_texts
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side, SideLabel, Tools
from josh_pipeline.policies.chat import ChatRenderer, check_template
from josh_pipeline.training.tokens import IGNORED, RowTokenizer, TokenExample

SOURCE = Provenance("goal", "rollout", "policy")
CALL = ToolCall("find_room", {"area": "north"})
FUNCTION = {"name": "find_room", "description": "Find.", "parameters": {"type": "object", "properties": {}}}
SCHEMAS: Tools = ({"type": "function", "function": FUNCTION},)
HEADER = re.compile(
    r"^\s*(<think>\s*)?</think>|^ to=user<\|message\|>|^<\|channel\|>final<\|message\|>|^<\|turn>model\n"
)
"""What templates write before the words: a thought without words, or for whom or by whom the message is."""
NO_TOOLS = {"cohere", "cohere2", "gemma", "gemma3", "idefics3", "llava_next", "phi3", "phi3_5", "smolvlm"}
"""Templates that refuse system or tool messages, or leave them out."""
CALLS_ONLY = {"diffusion_gemma", "gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5", "gptoss"}
"""Templates that show what a tool says only where they have shown its call."""
TEXT_ONLY = {"deepseek_r1_distill", "deepseekv3", "lfm2", "llama3", "qwen2_5_vl"}
"""Templates that leave calls out, or cannot write their arguments."""
TEXT = [name for name in TEMPLATES if name not in NO_TOOLS | CALLS_ONLY]
NATIVE_TOO = [name for name in TEMPLATES if name not in NO_TOOLS | TEXT_ONLY]


def talk(call: Message) -> Conversation:
    return (
        Message("system", "Help."),
        Message("user", "A room in the north, please."),
        call,
        Message("tool", '{"rooms": 0}'),
        Message("assistant", "There is none."),
        Message("user", "Thanks."),
        Message("assistant", "Goodbye!"),
    )


COMPACT = talk(Message("assistant", '{"name": "find_room", "parameters": {"area": "north"}}', (CALL,)))
NATIVE = talk(Message("assistant", "", (CALL,)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("templates")
    for name in TEMPLATES:
        template_folder(place / name, name)
    return place


def conversation(messages: Conversation, tools: Tools = ()) -> Row:
    said = tuple(Said(message, message.role == "assistant") for message in messages[1:])
    return Row("sft", SOURCE, tools, messages[:1], (Side(said, "desirable"),))


def answers(messages: Conversation) -> Iterator[tuple[Conversation, Message]]:
    """Give each message of the assistant, and what is before it."""
    for place, message in enumerate(messages):
        if message.role == "assistant":
            yield messages[:place], message


def side(message: Message, label: SideLabel = "desirable") -> Side:
    return Side((Said(message, train=True),), label)


def trained(example: TokenExample) -> list[list[int]]:
    """Return the runs of labelled tokens."""
    runs = groupby(example.labels, lambda label: label != IGNORED)
    return [list(run) for labelled, run in runs if labelled]


def words(renderer: ChatRenderer, run: list[int]) -> str:
    """Read what is trained: it ends a turn, and says nothing after that."""
    assert run[-1] in renderer.stop_ids and not set(run[:-1]) & set(renderer.stop_ids)
    return HEADER.sub("", renderer.tokenizer.decode(run[:-1])).strip()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_does_not_show_what_tools_are_asked_and_say_is_refused(name: str, native: bool, folders: Path):
    if name in (NATIVE_TOO if native else TEXT):
        check_template(folders / name, native)
        return
    with pytest.raises(UserError, match=r"choose another --model.* or mend its chat_template\.$"):
        check_template(folders / name, native)


@pytest.mark.parametrize("name", TEXT)
def test_words_that_were_not_sampled_are_trained_as_they_were_said(name: str, folders: Path):
    renderer = ChatRenderer(folders / name)
    tokenizer = RowTokenizer(renderer)
    said = [message.content for _, message in answers(COMPACT)]
    row = conversation(COMPACT)
    examples = tokenizer.tokens(row).examples
    assert [words(renderer, run) for one in examples for run in trained(one)] == said and row.retokenised
    for before, message in answers(COMPACT):
        pair = Row("dpo", SOURCE, (), before, (side(message), side(Message("assistant", "No."), "undesirable")))
        for one, wanted in zip(tokenizer.tokens(pair).examples, (message.content, "No."), strict=True):
            assert [words(renderer, run) for run in trained(one)] == [wanted]
            assert list(one.prompt) == renderer.prompt_ids(before, ())
        (single,) = tokenizer.tokens(Row("kto", SOURCE, (), before, (side(message),))).examples
        assert [words(renderer, run) for run in trained(single)] == [message.content]


@pytest.mark.parametrize("name", sorted({*TEXT, *NATIVE_TOO}))
def test_drift_is_measured_on_the_words_of_the_answers(name: str, folders: Path):
    renderer = ChatRenderer(folders / name)
    for row, text in zip(_tokenised(folders / name), general_texts(), strict=True):
        assert words(renderer, [row.ids[position + 1] for position in row.positions]) == text.answer.strip()


@pytest.mark.parametrize("name", NATIVE_TOO)
def test_calls_that_were_not_sampled_are_trained_as_the_model_writes_them(name: str, folders: Path):
    renderer = ChatRenderer(folders / name)
    examples = RowTokenizer(renderer).tokens(conversation(NATIVE, SCHEMAS)).examples
    call, *speech = [words(renderer, run) for one in examples for run in trained(one)]
    assert speech == ["There is none.", "Goodbye!"]
    assert "find_room" in call and "north" in call and "please" not in call


@pytest.mark.parametrize("name", ["lfm2", "llama3"])
def test_a_template_that_drops_a_call_is_not_trained_on(name: str, folders: Path):
    with pytest.raises(UserError, match=f"chat template in .*{name} does not write an assistant's message"):
        RowTokenizer(ChatRenderer(folders / name)).tokens(conversation(NATIVE, SCHEMAS))


@pytest.mark.parametrize("name", TEXT)
def test_thoughts_that_were_given_are_trained_with_the_words_or_refused(name: str, folders: Path):
    renderer = ChatRenderer(folders / name)
    given = (*COMPACT[:4], Message("assistant", "<think>\nThe list is empty.\n</think>\n\nThere is none."))
    try:
        (example,) = RowTokenizer(renderer).tokens(Row("kto", SOURCE, (), given[:4], (side(given[4]),))).examples
    except UserError as refusal:
        assert "does not write an assistant's message" in str(refusal)
        return
    (run,) = trained(example)
    prompt, answer = (renderer.tokenizer.decode(list(ids)) for ids in (example.prompt, run[:-1]))
    assert run[-1] in renderer.stop_ids
    assert (prompt + answer).count("<think>\nThe list is empty.\n</think>") == 1
    assert answer.endswith("\n</think>\n\nThere is none.")


@pytest.mark.parametrize("thought", ["", "<think>\nThey want a room.\n</think>\n\n"])
@pytest.mark.parametrize(
    ("name", "messages", "tools"),
    [(name, COMPACT, ()) for name in TEXT] + [(name, NATIVE, SCHEMAS) for name in NATIVE_TOO],
)
def test_what_was_sampled_is_trained_token_by_token_after_the_prompt_that_was_seen(
    name: str, messages: Conversation, tools: Tools, thought: str, folders: Path
):
    renderer = ChatRenderer(folders / name)
    drawn = {}
    for place, message in enumerate(messages):
        if message.role == "assistant":
            written = renderer.tokenizer(thought + (message.content or "find_room()"))["input_ids"]
            drawn[place] = renderer.prompt_ids(messages[:place], tools), (*written, renderer.stop_ids[-1])

    def said(place: int) -> Said:
        prompt, ids = drawn.get(place, ([], None))
        return Said(messages[place], ids is not None, ids, content_id(prompt) if ids else None)

    tokenizer = RowTokenizer(renderer)
    row = Row("sft", SOURCE, tools, messages[:1], (Side(tuple(map(said, range(1, 7))), "desirable"),))
    found = []
    for one in tokenizer.tokens(row).examples:
        ends = [place for place, label in enumerate(one.labels) if label != IGNORED]
        starts = [place for place in ends if place - 1 not in ends]
        found += [(list(one.input_ids[:start]), tuple(run)) for start, run in zip(starts, trained(one), strict=True)]
    assert found == list(drawn.values()) and not row.retokenised
    assert tokenizer.length(row) == max(len(prompt) + len(ids) for prompt, ids in found)
    for place, (prompt, ids) in drawn.items():
        one = Side((said(place),), "desirable")
        for sides in ((one,), (one, replace(one, label="undesirable"))):
            for example in tokenizer.tokens(Row("own", SOURCE, tools, messages[:place], sides)).examples:
                assert (list(example.prompt), example.completion) == (prompt, ids)


def sampled(renderer: ChatRenderer, messages: Conversation) -> Row:
    """A conversation as a policy says it without thoughts."""
    said = tuple(
        Said(message, True, (*renderer.tokenizer(message.content)["input_ids"], renderer.stop_ids[0]))
        if message.role == "assistant"
        else Said(message)
        for message in messages[1:]
    )
    return Row("sft", SOURCE, (), messages[:1], (Side(said, "desirable"),))


def test_a_conversation_is_one_sequence_where_each_prompt_goes_on_from_the_last(folders: Path):
    renderer = ChatRenderer(folders / "qwen2_5")
    (example,) = RowTokenizer(renderer).tokens(sampled(renderer, COMPACT)).examples
    assert len(trained(example)) == 3 and example.cut == len(renderer.prompt_ids(COMPACT[:2], ()))


def test_a_prompt_that_was_not_the_one_that_was_answered_is_refused_with_what_to_do(folders: Path):
    row = sampled(ChatRenderer(folders / "qwen3"), COMPACT)
    (side,) = row.sides
    wrong = replace(side, said=tuple(replace(one, prompt_digest="0" * 16 if one.train else None) for one in side.said))
    changed = replace(row, sides=(wrong,))
    with pytest.raises(UserError, match=f"row {row.row_id} .* chat template has changed .* search the iteration"):
        RowTokenizer(ChatRenderer(folders / "qwen3")).tokens(changed)


def test_a_template_that_writes_todays_date_writes_the_same_one_tomorrow(folders: Path):
    assert "26 Jul 2024" in ChatRenderer(folders / "llama3_2").text(COMPACT[:2], SCHEMAS, ask=True)
