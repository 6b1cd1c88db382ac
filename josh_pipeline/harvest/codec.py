"""Training rows as flat records for the store, and back without loss; see ``search.codec``."""

import json
from collections.abc import Mapping
from typing import Any

from josh_pipeline.harvest.rows import DpoRow, KtoRow, Link, Row, Sampled, SftRow, Source, method_of
from josh_pipeline.search.codec import (
    Record,
    conversation_from_text,
    conversation_text,
    json_text,
    message_from,
    message_value,
    token_ids_from,
)


def row_record(row: Row) -> Record:
    """Return a training row's row of table ``preference_rows``.

    ``completion`` and ``rejected`` hold ``{"message", "token_ids"}``. An SFT row has its system message
    as ``prompt``, and all that follows as ``completion``: a list of ``{"message", "token_ids", "train"}``.
    """
    prompt = row.messages[:1] if isinstance(row, SftRow) else row.prompt
    completion: Any
    if isinstance(row, SftRow):
        following = zip(row.messages[1:], row.token_ids[1:], row.train[1:], strict=True)
        completion = [
            {"message": message_value(message), "token_ids": token_ids, "train": train}
            for message, token_ids, train in following
        ]
    else:
        completion = _sampled_value(row.completion if isinstance(row, KtoRow) else row.chosen)
    return {
        "row_id": row.row_id,
        "method": method_of(row),
        "goal_id": row.source.goal_id,
        "rollout_id": row.source.rollout_id,
        "policy_digest": row.source.policy_digest,
        "tools": json_text(row.tools),
        "prompt": conversation_text(prompt),
        "completion": json_text(completion),
        "rejected": json_text(_sampled_value(row.rejected)) if isinstance(row, DpoRow) else None,
        "desirable": row.desirable if isinstance(row, KtoRow) else True,
    }


def row_from_record(record: Mapping[str, Any]) -> Row:
    """Rebuild a training row; further columns are ignored."""
    source = Source(record["goal_id"], record["rollout_id"], record["policy_digest"])
    tools = tuple(json.loads(record["tools"]))
    prompt = conversation_from_text(record["prompt"])
    completion = json.loads(record["completion"])
    if record["method"] == "kto":
        return KtoRow(source, tools, prompt, _sampled(completion), record["desirable"])
    if record["method"] == "dpo":
        return DpoRow(source, tools, prompt, _sampled(completion), _sampled(json.loads(record["rejected"])))
    following = [_sampled(value) for value in completion]
    return SftRow(
        source=source,
        tools=tools,
        messages=prompt + tuple(sampled.message for sampled in following),
        train=(False, *(value["train"] for value in completion)),
        token_ids=(None, *(sampled.token_ids for sampled in following)),
    )


def link_record(link: Link) -> Record:
    """Return a link's row of table ``row_nodes``."""
    return {
        "row_id": link.row_id,
        "node_id": link.node_id,
        "rollout_id": link.rollout_id,
        "part": link.part,
    }


def _sampled_value(sampled: Sampled) -> Record:
    return {"message": message_value(sampled.message), "token_ids": sampled.token_ids}


def _sampled(value: Mapping[str, Any]) -> Sampled:
    return Sampled(message_from(value["message"]), token_ids_from(value["token_ids"]))
