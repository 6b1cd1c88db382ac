"""HTML pages from templates: everything that came from a conversation or a corpus is escaped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from josh_pipeline.core.ids import canonical_json
from josh_pipeline.core.messages import Conversation, Message, visible
from josh_pipeline.report.words import duration


@dataclass(frozen=True)
class Bubble:
    """A message as it is drawn.

    Attributes:
        kind: user, assistant, call or tool.
        who: the name above it.
        text: what it says.
        error: it is an error.
    """

    kind: str
    who: str
    text: str
    error: bool


def template_text(name: str) -> str:
    """Text of a file that ships beside the templates."""
    return (files("josh_pipeline.report") / "templates" / name).read_text()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(template_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["duration"] = duration
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment


def page(template: str, values: Mapping[str, Any]) -> str:
    """Render a template; every value is escaped unless the template marks it safe."""
    return _environment().get_template(template).render(css=template_text("base.css"), **values)


def bubbles(conversation: Conversation) -> tuple[Bubble, ...]:
    """Turn messages into bubbles; what the user did not see is drawn as a call or a result."""
    heard = {id(m) for m in conversation if m.role == "user"}
    for index, message in enumerate(conversation):
        if message.role == "assistant" and visible(conversation[index : index + 2])[:1]:
            heard.add(id(message))
    return tuple(_bubble(message, id(message) in heard) for message in conversation)


def _bubble(message: Message, heard: bool) -> Bubble:
    if message.role == "user":
        return Bubble("user", "user", message.content, message.error)
    if message.role == "tool":
        return Bubble("tool", "result", message.content, message.error)
    if heard:
        return Bubble("assistant", "agent", message.content, message.error)
    calls = "\n".join(f"{call.name} {canonical_json(call.arguments)}" for call in message.tool_calls)
    return Bubble("call", "agent calls", calls or message.content, message.error)
