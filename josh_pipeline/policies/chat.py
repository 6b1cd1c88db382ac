"""From messages to prompt tokens and back, through the model's own chat template."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from josh_pipeline.core.content import content_id, written_call
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.policies.loading import LOADING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIAL = (
    Message("system", "Help the user."),
    Message("user", "What is the weather like in the north?"),
    Message("assistant", '{"name": "weather", "parameters": {"area": "north"}}'),
    Message("tool", '{"rain": 1}'),
    Message("assistant", "It rains."),
    Message("user", "Thank you."),
)
"""Every role, in an order that conversations have: an assistant's message before and after a tool's."""
TOOL_CALL_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)


class ChatRenderer:
    """Renders prompts for one model folder.

    Args:
        folder: holds the tokenizer with its chat template.

    Raises:
        UserError: there is no tokenizer that can be read, or it has no chat template.
    """

    def __init__(self, folder: Path) -> None:
        # Imported where it is used: it takes seconds, and messages are written without it.
        from transformers import AutoTokenizer

        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **LOADING)
        except Exception as fault:  # whatever the files make the libraries raise, they are at fault
            raise UserError(
                f"The tokenizer in {folder} cannot be read ({_reason(fault)}): put the files of the model's "
                "tokenizer there, or choose another --model."
            ) from None
        try:
            template = self.tokenizer.get_chat_template()
        except ValueError:
            raise UserError(
                f"The tokenizer in {folder} has no chat template, or no default one: choose a --model that "
                "was tuned for chats, or put its chat_template.jinja there."
            ) from None
        self.template_digest = content_id(template)

    def prompt_ids(self, messages: Conversation, tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the token ids of a prompt that asks for the assistant's next message."""
        return self.ids(messages, tools, ask=True)

    def ids(self, messages: Conversation, tools: Sequence[Mapping[str, Any]], *, ask: bool = False) -> list[int]:
        """Return the token ids of ``text``."""
        text = self.text(messages, tools, ask=ask)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, messages: Conversation, tools: Sequence[Mapping[str, Any]], *, ask: bool) -> str:
        """Return the rendered text.

        Args:
            ask: end with the opening of an assistant's message.
        """
        rendered = self.tokenizer.apply_chat_template(
            [template_message(message, structured=bool(tools)) for message in messages],
            tools=list(tools) or None,
            add_generation_prompt=ask,
            tokenize=False,
        )
        return str(rendered)

    def row_ids(self, messages: Conversation, tools: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """Return a whole conversation's tokens, and which message wrote each.

        Returns:
            Token ids, and for each token the position in ``messages`` of the assistant message whose
            completion it belongs to (its end-of-turn token included), else -1.
        """
        whole = self.text(messages, tools, ask=False)
        encoded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        owner = [-1] * len(encoded["input_ids"])
        token = 0
        for position, message in enumerate(messages):
            if message.role != "assistant":
                continue
            begin = len(self.text(messages[:position], tools, ask=True))
            last = position + 1 == len(messages)
            written = whole if last else self.text(messages[: position + 1], tools, ask=False)
            end = len(written.rstrip())
            while token < len(owner) and encoded["offset_mapping"][token][0] < begin:
                token += 1
            while token < len(owner) and encoded["offset_mapping"][token][1] <= end:
                owner[token] = position
                token += 1
        return list(encoded["input_ids"]), owner

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of sampled tokens, special tokens removed."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an assistant's message."""
        stops = {self.tokenizer.eos_token_id}
        vocabulary = self.tokenizer.get_vocab()
        stops.update(vocabulary[token] for token in ("<|im_end|>", "<|eot_id|>") if token in vocabulary)
        return tuple(sorted(stops))


def check_template(folder: Path) -> None:
    """Render a conversation as agents hold it, so that no template fails in the middle of the work.

    Raises:
        UserError: the model in the folder has no chat template, or it refuses a role or their order.
    """
    renderer = ChatRenderer(folder)
    try:
        renderer.prompt_ids(TRIAL, ())
    except Exception as fault:  # templates are programs of their own
        raise UserError(
            f"The chat template in {folder} cannot render a conversation of system, user, assistant and tool "
            f"messages ({_reason(fault)}): choose another --model, or mend its chat_template."
        ) from None


def _reason(fault: Exception) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())[:200].rstrip(".")


def structured_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Read the tool calls that a model wrote as text (Hermes blocks, or one bare JSON object).

    Returns:
        The text around the calls, and the calls; text that reads as no call stays text.
    """
    blocks = TOOL_CALL_BLOCK.findall(text)
    calls = tuple(call for call in map(_read_call, blocks) if call is not None)
    if calls:
        return TOOL_CALL_BLOCK.sub("", text).strip(), calls
    bare = _read_call(text)
    return ("", (bare,)) if bare is not None else (text, ())


def _read_call(text: str) -> ToolCall | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return written_call(value["name"], arguments, text) if isinstance(arguments, dict) else None


def template_message(message: Message, *, structured: bool) -> dict[str, Any]:
    """Return a message as chat templates and the chat API read it.

    Args:
        structured: render the message's tool calls; false for text formats.
    """
    # A text format's raw text already holds its call: only the chat API's agents render calls.
    rendered: dict[str, Any] = {"role": message.role, "content": message.content}
    if structured and message.tool_calls:
        rendered["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    return rendered
