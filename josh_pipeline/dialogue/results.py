"""What the agent is shown of a tool's answer: all of it, or what the environment shows in short."""

import json
from typing import Literal

from josh_pipeline.core.messages import Message
from josh_pipeline.core.world import ToolResult

Shown = Literal["compact", "full"]


def result_json(result: ToolResult, shown: Shown) -> str:
    """Return a tool's answer as JSON on one line; errors are shown whole."""
    told = result.payload if shown == "full" or result.error else result.brief
    return json.dumps(told, ensure_ascii=False)


def result_message(result: ToolResult, shown: Shown) -> Message:
    """Return the ``tool`` message that carries one answer."""
    return Message(role="tool", content=result_json(result, shown), error=result.error)
