"""Trees as flat records for the store, and back without loss; also what other records are made of.

A record's keys are the columns of its table in ``store/schema.sql``; nested values are JSON text with
their keys in the order in which they came, because that order is what a prompt showed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.world import CallRecord
from josh_pipeline.search.tree import Node, Told, Tree, Usage

Record = dict[str, Any]
USAGE = tuple(field.name for field in fields(Usage))


def tree_record(tree: Tree) -> Record:
    """Return a tree's row of table ``trees``; its nodes are rows of their own."""
    return {
        "rollout_id": tree.rollout_id,
        "goal_id": tree.goal_id,
        "policy_digest": tree.policy_digest,
        "seed": tree.seed,
        "settings_digest": tree.settings_digest,
        "retry": tree.retry,
        "system": tree.system,
        "tools": json_text(tree.tools),
        "earned": json_text(tree.earned),
        "reward": tree.reward,
        "rounds": tree.rounds,
        "failure": tree.failure,
        "failure_message": tree.failure_message,
        **{name: getattr(tree.usage, name) for name in USAGE},
    }


def node_records(tree: Tree) -> list[Record]:
    """Return a tree's rows of table ``nodes``, in the tree's order."""
    return [
        {
            "rollout_id": tree.rollout_id,
            "node_id": node.node_id,
            "parent_id": node.parent_id,
            "position": position,
            "path": json_text(node.path),
            "round": node.round,
            "messages": conversation_text(node.messages),
            "completions": json_text([_completion_value(completion) for completion in node.completions]),
            "calls": json_text([call_value(call) for call in node.calls]),
            "earned": json_text(node.earned),
            "golden": node.golden,
            "successful": node.successful,
            "error_turn": node.error_turn,
            "failure": node.failure,
            "failure_message": node.failure_message,
            "ended": node.end,
            "told": None if node.told is None else json_text(node.told),
        }
        for position, node in enumerate(tree.nodes)
    ]


def tree_from_records(record: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> Tree:
    """Rebuild a tree.

    Args:
        record: its row of ``trees``; further columns are ignored.
        nodes: its rows of ``nodes``, in any order.
    """
    ordered = sorted(nodes, key=lambda row: row["position"])
    return Tree(
        rollout_id=record["rollout_id"],
        goal_id=record["goal_id"],
        policy_digest=record["policy_digest"],
        seed=record["seed"],
        settings_digest=record["settings_digest"],
        system=record["system"],
        tools=tuple(json.loads(record["tools"])),
        nodes=tuple(_node(row) for row in ordered),
        earned=tuple(json.loads(record["earned"])),
        reward=record["reward"],
        rounds=record["rounds"],
        failure=record["failure"],
        failure_message=record["failure_message"],
        usage=Usage(**{name: record[name] for name in USAGE}),
        retry=record["retry"],
    )


def trees_from_records(
    records: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]
) -> tuple[Tree, ...]:
    """Rebuild several trees, in the order of ``records``; ``nodes`` may hold those of other trees too."""
    by_tree: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        by_tree.setdefault(node["rollout_id"], []).append(node)
    return tuple(tree_from_records(record, by_tree[record["rollout_id"]]) for record in records)


def conversation_text(messages: Sequence[Message]) -> str:
    """Return messages as a JSON list."""
    return json_text([message_value(message) for message in messages])


def conversation_from_text(text: str) -> Conversation:
    """Read what ``conversation_text`` wrote."""
    return tuple(message_from(value) for value in json.loads(text))


def json_text(value: Any) -> str:
    """Return JSON text that keeps the order of keys."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _tool_call_values(calls: Sequence[ToolCall]) -> list[Record]:
    return [{"name": call.name, "arguments": call.arguments} for call in calls]


def _tool_calls(values: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(value["name"], value["arguments"]) for value in values)


def message_value(message: Message) -> Record:
    """Return a message without the fields that say nothing: they are most of a stored tree."""
    value: Record = {"role": message.role, "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = _tool_call_values(message.tool_calls)
    if message.error:
        value["error"] = True
    if message.spoken is not None:
        value["spoken"] = message.spoken
    return value


def message_from(value: Mapping[str, Any]) -> Message:
    """Read what ``message_value`` gave."""
    return Message(
        role=value["role"],
        content=value["content"],
        tool_calls=_tool_calls(value.get("tool_calls", ())),
        error=value.get("error", False),
        spoken=value.get("spoken"),
    )


def token_ids_from(value: Sequence[int] | None) -> tuple[int, ...] | None:
    """Read token ids; None stays None."""
    return None if value is None else tuple(value)


def _completion_value(completion: Completion) -> Record:
    return {
        "text": completion.text,
        "tool_calls": _tool_call_values(completion.tool_calls),
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "completion_tokens": completion.completion_tokens,
        "prompt_digest": completion.prompt_digest,
    }


def _completion(value: Mapping[str, Any]) -> Completion:
    fields = dict(value)
    fields["tool_calls"] = _tool_calls(value["tool_calls"])
    fields["token_ids"] = token_ids_from(value["token_ids"])
    return Completion(**fields)


def call_value(call: CallRecord) -> Record:
    """Return a call as a JSON object."""
    return {
        "tool": call.tool,
        "arguments": call.arguments,
        "payload": call.payload,
        "brief": call.brief,
        "error": call.error,
        "earned": call.earned,
    }


def call_from(value: Mapping[str, Any]) -> CallRecord:
    """Read what ``call_value`` gave."""
    return CallRecord(
        tool=value["tool"],
        arguments=value["arguments"],
        payload=value["payload"],
        brief=value["brief"],
        error=value["error"],
        earned=tuple(value["earned"]),
    )


def _told(text: str | None) -> Told | None:
    if text is None:
        return None
    system, tools = json.loads(text)
    return system, tuple(tools)


def _node(record: Mapping[str, Any]) -> Node:
    return Node(
        node_id=record["node_id"],
        parent_id=record["parent_id"],
        path=tuple(json.loads(record["path"])),
        round=record["round"],
        messages=conversation_from_text(record["messages"]),
        completions=tuple(_completion(value) for value in json.loads(record["completions"])),
        calls=tuple(call_from(value) for value in json.loads(record["calls"])),
        earned=tuple(json.loads(record["earned"])),
        golden=record["golden"],
        successful=record["successful"],
        error_turn=record["error_turn"],
        failure=record["failure"],
        failure_message=record["failure_message"],
        end=record["ended"],
        told=_told(record["told"]),
    )
