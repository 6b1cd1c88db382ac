"""Tiny real fakes: a scripted policy, a world of named prizes, an agent format and a user.

The agent writes ``GET a b`` to call the tool ``get`` once a prize, ``?`` for something unreadable, and
anything else to speak.
"""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from tiny_tokens import tiny_ids

from josh_pipeline.core.errors import ErrorKind, RolloutError
from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.core.policy import Completion, Policy, Request
from josh_pipeline.core.user import User, UserReply
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.dialogue.agents import Reply
from josh_pipeline.search.concurrency import Limiter
from josh_pipeline.search.search import search
from josh_pipeline.search.spending import Budget, Ledger
from josh_pipeline.search.tree import Node, Tree
from josh_pipeline.settings import SearchSettings

LEVERS = st.fixed_dictionaries(
    {
        "step_by": st.sampled_from(["turn", "action"]),
        "collapse": st.just("all"),
        "children": st.integers(1, 4),
        "merge_twins": st.just(True),
        "redraws": st.integers(0, 2),
        "restarts": st.integers(0, 2),
        "temperature_step": st.sampled_from([0.0, 0.2]),
    }
) | st.fixed_dictionaries({"step_by": st.sampled_from(["turn", "action"])})
"""Options of a search: all levers at once, or the paper's."""


@dataclass
class ScriptedPolicy:
    """Answers with a pure function of the request, after a random delay if one is given.

    Attributes:
        answer: request to text; may raise RolloutError.
        delay: seconds at most; drawn from ``delays``, so that orders of completion vary.
        digest: names the policy.
        asked: every request, in the order it was asked.
        most_in_flight: the largest number of requests in flight at once.
    """

    answer: Callable[[Request], str]
    delay: float = 0.0
    delays: random.Random = field(default_factory=random.Random)
    digest: str = "scripted"
    asked: list[Request] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delays.uniform(0, self.delay))
            text = self.answer(request)
        finally:
            self.in_flight -= 1
        return completion(text, prompt_tokens=sum(len(m.content) for m in request.messages))

    async def close(self) -> None:
        """Nothing is held."""


class SampledPolicy(ScriptedPolicy):
    """One that knows how likely its answers were: a nat a token."""

    async def complete(self, request: Request) -> Completion:
        found = await super().complete(request)
        logprobs = (-1.0,) * len(found.token_ids or ())
        return dataclasses.replace(found, logprobs=logprobs, temperature=request.sampling.temperature)


def answered_by(answer: Callable[[Request], str]) -> Callable[..., AbstractAsyncContextManager[Policy]]:
    """What opens a scripted policy in the place of ``josh_pipeline.policies.open.open_policy``."""

    @asynccontextmanager
    async def open_policy(settings: Any, weights: Any, digest: str, in_flight: int) -> AsyncIterator[Policy]:
        yield ScriptedPolicy(answer, digest=digest)

    return open_policy


def completion(text: str, prompt_tokens: int = 1) -> Completion:
    """A completion as a tiny model samples it; what ends with ``...`` was cut by the token limit."""
    cut = text.endswith("...")
    return Completion(
        text=text,
        tool_calls=(),
        token_ids=tiny_ids(text, whole=not cut),
        finish_reason="length" if cut else "stop",
        prompt_tokens=prompt_tokens,
        cached_tokens=0,
        completion_tokens=len(text),
        prompt_digest=None,
    )


def chance(request: Request) -> random.Random:
    """Randomness that depends on the request alone, as sampling with its seed would."""
    return random.Random(request.seed)


def choosing(*texts: str) -> Callable[[Request], str]:
    """Answer with one of the texts, drawn with the request's seed."""
    return lambda request: chance(request).choice(texts)


def last_text(request: Request) -> str:
    """The text of the request's last message."""
    return request.messages[-1].content


def after_call(request: Request) -> bool:
    """Whether the agent is shown what its last reply led to."""
    return request.messages[-1].role == "tool"


def failing(kind: ErrorKind) -> RolloutError:
    """A typed failure."""
    return RolloutError(kind, f"A scripted {kind} failure.")


@dataclass
class PrizeWorld(World):
    """Prizes are milestones 0, 1, ... named by letters; ``get`` earns one, anything else is an error.

    To ask for prize ``0`` makes the world itself break.
    """

    prizes: str
    won: frozenset[int] = frozenset()

    @property
    def instructions(self) -> str:
        return "Win the prizes."

    @property
    def tools(self) -> tuple[Tool, ...]:
        properties = {"prize": {"type": "string"}}
        return (Tool("get", "Win a prize.", {"type": "object", "properties": properties}),)

    @property
    def all_milestones(self) -> frozenset[int]:
        return frozenset(range(len(self.prizes)))

    def fork(self) -> "PrizeWorld":
        return PrizeWorld(self.prizes, self.won)

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        prize = arguments.get("prize", "")
        if prize == "0":
            raise ZeroDivisionError("a bug of the world")
        if tool != "get" or len(prize) != 1 or prize not in self.prizes:
            return ToolResult({"error": f"No prize {prize!r}."}, error=True)
        self.won |= {self.prizes.index(prize)}
        return ToolResult({"rows": [{"prize": prize}]})

    def milestones(self) -> frozenset[int]:
        return self.won

    def outcome(self, conversation: Conversation) -> float:
        return len(self.won) / len(self.prizes)


@dataclass
class MoodyWorld(PrizeWorld):
    """A prize world in which all that a world may do happens.

    Asking for ``z`` makes it void. A hand-over after ``a`` was won wins ``h``, and from then on there is a
    tool ``put`` too. The outcome is 1 where every prize was won and the agent spoke
    of a ``gift``, else 0.25.
    """

    spoilt: bool = False

    @property
    def tools(self) -> tuple[Tool, ...]:
        more = (Tool("put", "Put a prize back.", {"type": "object", "properties": {}}),)
        return super().tools + (more if self.prizes.index("h") in self.won else ())

    @property
    def void(self) -> bool:
        return self.spoilt

    def fork(self) -> "MoodyWorld":
        return MoodyWorld(self.prizes, self.won, self.spoilt)

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        self.spoilt = self.spoilt or arguments.get("prize") == "z"
        return super().call(tool, arguments)

    def hand_over(self) -> None:
        if self.prizes.index("a") in self.won:
            self.won |= {self.prizes.index("h")}

    def outcome(self, conversation: Conversation) -> float:
        spoke = any(m.role == "assistant" and "gift" in m.content for m in conversation)
        return 1.0 if spoke and self.won == self.all_milestones else 0.25


class TinyAgent:
    """Reads ``GET a b`` (calls), ``?`` (unreadable), and speech; results come back as ``tool`` messages.

    At ``%`` it breaks.
    """

    name = "tiny"

    def system(self, world: World) -> Message:
        return Message("system", world.instructions)

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        return tuple({"name": tool.name} for tool in world.tools)

    def read(self, completion: Completion) -> Reply:
        text = completion.text
        if text == "%":
            raise ValueError("a bug of the reader")
        if text == "?":
            return Reply(Message("assistant", text), (), None, "Write GET or speak.")
        if text.startswith("GET"):
            calls = tuple(ToolCall("get", {"prize": prize}) for prize in text.split()[1:])
            return Reply(Message("assistant", text, calls), calls, None, None)
        return Reply(Message("assistant", text), (), text, None)

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        return tuple(Message("tool", str(dict(r.payload)), error=r.error) for _, r in results)

    def fault(self, sentence: str) -> Message:
        return Message("tool", sentence, error=True)


@dataclass(frozen=True)
class TinyUser:
    """Counts its turns aloud and says goodbye after ``turns`` of them, each a pure function of the talk.

    Attributes:
        turns: messages before the farewell.
        fails_at: the turn in which no answer can be had, if any.
        delay: seconds before each answer.
    """

    turns: int = 20
    fails_at: int | None = None
    delay: float = 0.0

    async def reply(self, conversation: Conversation) -> UserReply:
        await asyncio.sleep(self.delay)
        said = sum(message.role == "user" for message in conversation)
        if said == self.fails_at:
            raise failing("user")
        if said >= self.turns:
            return UserReply("Goodbye.", done=True)
        heard = conversation[-1].content if conversation else "nothing"
        return UserReply(f"Turn {said}, I heard {heard}.", done=False)


def said(*texts: str) -> ScriptedPolicy:
    """A policy that plays the texts by the number of the agent's own messages so far, then speaks."""

    def answer(request: Request) -> str:
        so_far = sum(m.role == "assistant" and not m.error for m in request.messages)
        return texts[so_far] if so_far < len(texts) else "Anything else?"

    return ScriptedPolicy(answer)


def grow(
    policy: Policy,
    prizes: str = "ab",
    *,
    world: World | None = None,
    user: User | None = None,
    seed: int = 0,
    goal: str = "goal",
    limiter: Limiter | None = None,
    budget: Budget | None = None,
    **options: object,
) -> Tree:
    """Search one goal with the fakes; the wall time is put to 0, so that trees can be compared."""
    tree = asyncio.run(
        search(
            goal,
            world=world or PrizeWorld(prizes),
            user=user or TinyUser(),
            policy=policy,
            agent=TinyAgent(),
            settings=SearchSettings.model_validate(options),
            settings_digest="settings",
            seed=seed,
            limiter=limiter or Limiter(100),
            account=Ledger(budget or Budget()).account(),
        )
    )
    return dataclasses.replace(tree, usage=dataclasses.replace(tree.usage, seconds=0.0))


def in_round(tree: Tree, number: int) -> list[Node]:
    """The nodes of a round."""
    return [node for node in tree.nodes if node.round == number]


def by_path(tree: Tree, *path: int) -> Node:
    """The node at a path."""
    return next(node for node in tree.nodes if node.path == path)
