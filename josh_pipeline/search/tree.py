"""A search tree: nodes with parent ids, each message stored once; a conversation is a walk."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, Literal

from josh_pipeline.core.errors import ErrorKind
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.world import CallRecord

End = Literal["solved", "pruned", "merged", "void", "user_done", "failed", "rounds_spent", "budget_spent"]
"""Why a leaf has no child: see ``Node.end``."""
Told = tuple[str, tuple[Mapping[str, Any], ...]]
"""The system message of an agent, and the chat API's tool schemas."""


@dataclass(frozen=True)
class Node:
    """One agent turn and the user's answer to it; the root has only the user's opening message.

    Attributes:
        node_id: content hash of (rollout id, path).
        parent_id: None for the root.
        path: child indexes from the root; ``()`` is the root.
        round: 0 for the root, then the round in which the turn was made.
        messages: the turn's messages (calls, results, speech), then the user's answer, if any.
        completions: what was sampled, in order; one an assistant message of the turn, the fallback
            sentence of an error turn excepted.
        calls: executed calls, in order.
        earned: milestones newly earned in this turn.
        golden: it lies on the way to the last reward: to the leaf, first in tree order, that earned it.
        successful: a leaf that earned in its round, or an ancestor of one.
        error_turn: the requests of the turn were used up without speaking.
        failure, failure_message: the branch failed and died here.
        end: why there is no child; None for an interior node.
        told: what the agent was told in this turn, where that differs from what the tree's head says: tools
            may change between turns; else None.
    """

    node_id: str
    parent_id: str | None
    path: tuple[int, ...]
    round: int
    messages: Conversation
    completions: tuple[Completion, ...]
    calls: tuple[CallRecord, ...]
    earned: tuple[int, ...]
    golden: bool
    successful: bool
    error_turn: bool
    failure: ErrorKind | None
    failure_message: str | None
    end: End | None
    told: Told | None

    @property
    def kept(self) -> bool:
        """Whether it earned, and the search collapsed on it."""
        return bool(self.earned) and self.end not in ("pruned", "merged")


@dataclass(frozen=True)
class Usage:
    """What a tree cost.

    Attributes:
        requests, failed_requests: completions asked of the policy, and those that failed.
        prompt_tokens, cached_tokens, completion_tokens: sums over them.
        user_requests, user_failed_requests, user_prompt_tokens, user_completion_tokens: the same of the
            user's model; 0 for users without one.
        cost: of both, in the currency of the prices in the settings; 0 without prices.
        seconds: wall time from the opening message to the end; conversations overlap each other.
    """

    requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    user_requests: int = 0
    user_failed_requests: int = 0
    user_prompt_tokens: int = 0
    user_completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sums, of overlapping seconds too."""
        return Usage(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Tree:
    """One goal, searched.

    Attributes:
        rollout_id: content hash of (policy digest, goal id, seed, settings digest, retry).
        goal_id, policy_digest, seed, settings_digest: what was run.
        system: the agent's system message, shared by all nodes that say nothing else.
        tools: the chat API's tool schemas, shared likewise; empty for agents that write tools out.
        nodes: in tree order within each round, rounds ascending; the root first.
        earned: milestone ids that the search collected.
        reward: the world's outcome of the golden conversation; 0 where nothing was earned.
        rounds: rounds that were run.
        failure, failure_message: set where the whole conversation failed, or the budget cut it short; the
            tree is then partial.
        usage: what it cost.
        retry: how often the same search had failed before; 0 the first time.
    """

    rollout_id: str
    goal_id: str
    policy_digest: str
    seed: int
    settings_digest: str
    system: str
    tools: tuple[Mapping[str, Any], ...]
    nodes: tuple[Node, ...]
    earned: tuple[int, ...]
    reward: float
    rounds: int
    failure: ErrorKind | None
    failure_message: str | None
    usage: Usage
    retry: int = 0

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Nodes by id."""
        return {node.node_id: node for node in self.nodes}

    def told(self, node: Node) -> Told:
        """Return what the agent was told in a node's turn."""
        return node.told or (self.system, self.tools)

    @property
    def golden_end(self) -> Node | None:
        """The node that ends the golden conversation; None where nothing was earned."""
        return max((node for node in self.nodes if node.golden), key=lambda node: len(node.path), default=None)

    def walk(self, node: Node) -> tuple[Node, ...]:
        """Return the nodes from the root to ``node``, both included."""
        nodes = [node]
        while nodes[-1].parent_id is not None:
            nodes.append(self.by_id[nodes[-1].parent_id])
        return tuple(reversed(nodes))

    def conversation(self, node: Node) -> Conversation:
        """Return all messages from the opening to the end of ``node``, without the system message."""
        return tuple(message for step in self.walk(node) for message in step.messages)
