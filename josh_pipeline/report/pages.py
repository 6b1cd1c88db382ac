"""HTML pages from templates: everything that came from a conversation or a corpus is escaped."""

import hashlib
import json
import os
import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.files import writing
from josh_pipeline.core.messages import Conversation, ends_turn
from josh_pipeline.core.progress import duration
from josh_pipeline.report.palette import variables
from josh_pipeline.report.words import counts_text, end_text, ends_text, milestone_texts, nats, percent, sentences


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
def _templates() -> Environment:
    found = Environment(
        loader=FunctionLoader(template_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    shown = (bubbles, counts_text, duration, end_text, ends_text, milestone_texts, nats, percent, sentences)
    found.filters |= {one.__name__: one for one in shown}
    found.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return found


@cache
def content_policy() -> str:
    """Return what a browser may do with a page: show it, and run the script that ships with the templates alone."""
    (script,) = re.findall(r"<script>(.*?)</script>", template_text("viewer.jinja"), re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def page(template: str, values: Mapping[str, Any]) -> str:
    """Render a template; every value is escaped unless the template marks it safe."""
    css = variables() + template_text("style.css")
    return _templates().get_template(template).render(css=css, policy=content_policy(), **values)


def bubbles(conversation: Conversation, marked: Collection[int] = ()) -> tuple[Bubble, ...]:
    """Turn messages into bubbles; what the user did not see is drawn as a call or a result.

    Args:
        marked: places of messages that are drawn as those that count.
    """
    found = []
    for place, message in enumerate(conversation):
        following = conversation[place + 1] if place + 1 < len(conversation) else None
        mark = " earned" if place in marked else ""
        heard = ends_turn(message, following)
        if message.role != "assistant":
            who = "result" if message.role == "tool" else message.role
            found.append(Bubble(f"{message.role}{mark}", who, message.content, message.error))
            continue
        if message.tool_calls or not heard:
            calls = [f"{call.name} {canonical_json(call.arguments)}" for call in message.tool_calls]
            text = "\n".join(calls) or message.content
            found.append(Bubble(f"call{mark}", "agent calls", text, message.error))
        if heard:
            words = message.content if message.spoken is None else message.spoken
            found.append(Bubble(f"assistant{mark}", "agent", words, message.error))
    return tuple(found)


def write_page(path: Path, text: str) -> None:
    """Put a page into its place whole, so that nobody opens half of one; see ``writing``."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
