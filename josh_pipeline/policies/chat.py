"""From messages to prompt tokens and back, through the model's own chat template."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from josh_pipeline.core.content import content_id, storable_text, written_call
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.policies.loading import LOADING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = datetime(2024, 7, 26)
"""What templates that write today's date are told (it is Llama 3's own default): a prompt stays the same prompt
after midnight, when it is trained on."""
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
        self._folder = folder

    def prompt_ids(self, messages: Conversation, tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the token ids of a prompt that asks for the assistant's next message."""
        return self._ids(self.text(messages, tools, ask=True))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(
        self, messages: Conversation, tools: Sequence[Mapping[str, Any]], *, ask: bool, template: str | None = None
    ) -> str:
        """Return the rendered text.

        Args:
            ask: end with the opening of an assistant's message.
            template: other than the model's own.
        """
        rendered = self.tokenizer.apply_chat_template(
            [template_message(message, structured=bool(tools)) for message in messages],
            tools=list(tools) or None,
            chat_template=template,
            add_generation_prompt=ask,
            tokenize=False,
            strftime_now=TODAY.strftime,
        )
        return str(rendered)

    def answer(self, messages: Conversation, tools: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
        """Write the last message, an assistant's that was not sampled, as the model would have answered.

        Returns:
            The tokens of the prompt as the model sees it, and those of the answer, its end of turn included.

        Raises:
            UserError: the chat template writes other words, or no end of the turn.
        """
        before, last = messages[:-1], messages[-1]
        asked = self.text(before, tools, ask=True, template=self._training_template)
        whole = self.text(messages, tools, ask=False, template=self._training_template)
        pairs = enumerate(zip(asked, whole, strict=False))
        shared = next((place for place, (one, other) in pairs if one != other), min(len(asked), len(whole)))
        opening, written = asked[shared:], whole[shared:]
        if opening.lstrip().startswith("<think>"):
            written = f"</think>\n\n{written}"  # The prompt opens thoughts, and an answer that was given has none.
        seen = self.text(before, tools, ask=True)
        prompt, joined = self._ids(seen), self._ids(seen + written)
        # Where the two would share a token, the answer begins with one of its own, as what is sampled does.
        answer = joined[len(prompt) :] if joined[: len(prompt)] == prompt else self._ids(written)
        end = next((place for place, token in enumerate(answer) if token in self.stop_ids), -1)
        answer = answer[: end + 1]
        words = str(self.tokenizer.decode(answer[:-1])).strip()
        rewritten = bool(before[-1].content) and before[-1].content in opening
        called = not tools or all(call.name in words for call in last.tool_calls)
        if end < 0 or rewritten or not called or not words.endswith(last.content.strip()):
            raise UserError(
                f"The chat template in {self._folder} does not write an assistant's message as the model would "
                f"answer it (of {last.content[:80]!r} it makes {words[:200]!r}): choose another --model, or mend "
                "its chat_template and the eos_token_id of its generation_config.json."
            )
        return prompt, answer

    @cached_property
    def _training_template(self) -> str | None:
        """TRL's template for training, where it knows the model and its own one does not serve."""
        from jinja2 import TemplateError
        from trl.chat_template_utils import get_training_chat_template

        try:
            found: str | None = get_training_chat_template(self.tokenizer)
        except (ValueError, TypeError, TemplateError):  # TRL does not know it, or it does not render what TRL tries
            return None
        return found

    def reply(
        self, prompt: Sequence[int], token_ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
    ) -> tuple[str, tuple[ToolCall, ...]]:
        """Read what was sampled.

        Returns:
            Its text, special tokens removed; where tools were given, the text around its calls, and the calls.
        """
        text = storable_text(self.decode(token_ids))
        if not tools:
            return text, ()
        if not self._has_schema:
            return structured_calls(text)
        try:
            read = self.tokenizer.parse_response(list(token_ids), prefix=list(prompt), tools=list(tools))
            calls = [call["function"] for call in read.get("tool_calls") or ()]
            found = tuple(written_call(call["name"], call.get("arguments") or {}, text) for call in calls)
            # Some ways of parsing leave the end of the turn in the text.
            end = self.tokenizer.decode([token for token in token_ids[-1:] if token in self.stop_ids])
            return storable_text((read.get("content") or "").removesuffix(str(end))).strip(), found
        except (ValueError, TypeError, KeyError, AttributeError):  # what a model writes may be malformed
            return structured_calls(text)

    @cached_property
    def _has_schema(self) -> bool:
        """Whether transformers can parse a reply: the tokenizer says how, or TRL does for its template."""
        from trl.chat_template_utils import add_response_schema

        if getattr(self.tokenizer, "response_template", None) is None:
            try:
                add_response_schema(self.tokenizer)
            except ValueError:  # TRL does not know the template
                return False
        return True

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of sampled tokens, special tokens removed."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an assistant's message."""
        stops = {self.tokenizer.eos_token_id}
        generation = self._folder / "generation_config.json"
        if generation.is_file():
            ends = json.loads(generation.read_text()).get("eos_token_id")
            stops.update(ends if isinstance(ends, list) else [] if ends is None else [ends])
        vocabulary = self.tokenizer.get_vocab()
        stops.update(vocabulary[token] for token in ("<|im_end|>", "<|eot_id|>") if token in vocabulary)
        return tuple(sorted(stops))


def check_template(folder: Path, native: bool = False) -> None:
    """Render a conversation as agents hold it, so that no template fails in the middle of the work.

    Args:
        native: agents use the chat API's own tool calling.

    Raises:
        UserError: the model in the folder has no chat template, or it refuses a role or their order, or leaves
            out what tools are asked or answer.
    """
    renderer = ChatRenderer(folder)
    call = ToolCall("weather", {"area": "seaside"})
    # Every role, in an order that conversations have: an assistant's message before and after a tool's.
    trial = (
        Message("system", "Help the user."),
        Message("user", "What is the weather like in the north?"),
        Message("assistant", "" if native else json.dumps({"name": call.name, "parameters": call.arguments}), (call,)),
        Message("tool", '{"sunshine": 1}'),
        Message("assistant", "It is fine."),
        Message("user", "Thank you."),
    )
    schema = {"name": call.name, "description": "", "parameters": {"type": "object", "properties": {}}}
    try:
        rendered = renderer.text(trial, [{"type": "function", "function": schema}] if native else (), ask=True)
    except Exception as fault:  # templates are programs of their own
        raise UserError(
            f"The chat template in {folder} cannot render a conversation of system, user, assistant and tool "
            f"messages ({_reason(fault)}): choose another --model, or mend its chat_template."
        ) from None
    if lost := [what for word, what in (("seaside", "calls"), ("sunshine", "answers")) if word not in rendered]:
        raise UserError(
            f"The chat template in {folder} leaves out the {' and '.join(lost)} of tools, so that the model would "
            "never read them: choose another --model or policy.agent, or mend its chat_template."
        )


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
