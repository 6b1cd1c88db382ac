"""An environment of one's own: five things to sell, in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment, Task, WantedCall
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.user import User, UserReply
from josh_pipeline.core.world import Tool, ToolResult, World

PRICES = {"tea": 3, "cake": 5, "soup": 7, "bread": 2, "gold": 10**6}
ROLES = ("train", "val", "test", "train", "train")
CHARGE = Tool(
    "charge", "Take money.", {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
)
RECEIPT = Tool("receipt", "Print the receipt.", {"type": "object", "properties": {}})


class TillWorld(World):
    """Charge the price (milestone 0), give the goods as the turn ends (1); a wrong sum is for ever."""

    instructions = "Sell what is asked for."
    all_milestones = frozenset({0, 1})

    def __init__(self, price: int) -> None:
        self.price = price
        self.earned: frozenset[int] = frozenset()
        self.wrong = False

    @property
    def tools(self) -> tuple[Tool, ...]:
        return (RECEIPT,) if 1 in self.earned else (CHARGE,)

    @property
    def void(self) -> bool:
        return self.wrong

    def milestones(self) -> frozenset[int]:
        return self.earned

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if tool not in [one.name for one in self.tools]:
            return ToolResult(f"There is no {tool}.", error=True)
        if tool == "charge":
            self.wrong |= arguments["amount"] != self.price
            self.earned |= frozenset() if self.wrong else {0}
        return ToolResult({"paid": 0 in self.earned})

    def hand_over(self) -> None:
        if 0 in self.earned:
            self.earned |= {1}

    def outcome(self, conversation: Conversation) -> float:
        """Rude sellers get half."""
        polite = any("please" in message.content for message in conversation if message.role == "assistant")
        return 0.0 if self.wrong else len(self.earned) / (2 if polite else 4)


@dataclass(frozen=True)
class Buyer:
    """Says what it wants, and goodbye after two answers."""

    wish: str

    async def reply(self, conversation: Conversation) -> UserReply:
        turns = sum(message.role == "assistant" for message in conversation)
        return UserReply("Bye." if turns > 1 else f"One {self.wish}.", done=turns > 1)


class Till(Environment[Task]):
    """Five things to sell."""

    def tasks(self) -> Sequence[Task]:
        return [
            Task(
                goal_id=f"sell-{wish}",
                source_id=wish,
                split="menu" if wish != "gold" else "vault",
                role=role,
                kind="task",
                title=f"Sell {wish}",
                message=(f"You want {wish}.",),
                calls=(WantedCall("charge", {"amount": price}),),
                excluded="not for sale" if wish == "gold" else None,
            )
            for (wish, price), role in zip(PRICES.items(), ROLES, strict=True)
        ]

    def world(self, task: Task, *, searching: bool = False) -> World:
        return TillWorld(PRICES[task.source_id])

    def user(self, task: Task, seed: int, max_turns: int) -> User:
        return Buyer(task.source_id)


class PoliteTill(Till):
    """No calls solve a task: the seller has to be polite as well."""

    def oracle(self, task: Task) -> None:
        return None


NAME = f"{__file__}:Till"
"""How ``--env`` and settings name it."""
