"""A shelf that keeps every promise of an environment, and shelves that break one each."""

import copy
import itertools
import random
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from josh_pipeline.core.environment import Environment, Task, WantedCall
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.user import User, UserReply
from josh_pipeline.core.world import Tool, ToolResult, World

ITEMS = ["lamp", "chair", "desk", "sofa", "shelf", "stool"]
ORDER = Tool(
    "order",
    "Order an item.",
    {
        "type": "object",
        "properties": {"item": {"type": "string", "enum": ITEMS}, "note": {"type": "string"}},
        "required": ["item"],
    },
)


class ShelfWorld(World):
    """Order what is wanted, and nothing else; the basket is a list, so that copies can go wrong."""

    instructions = "Order what is asked for."
    all_milestones = frozenset({0})
    tools = (ORDER,)

    def __init__(self, wish: str) -> None:
        self.wish = wish
        self.basket: list[str] = []

    @property
    def void(self) -> bool:
        return any(item != self.wish for item in self.basket)

    def milestones(self) -> frozenset[int]:
        return frozenset({0} if self.wish in self.basket else ())

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if tool != "order" or arguments.get("item") not in ITEMS:
            return ToolResult("There is no such thing.", error=True)
        self.basket.append(arguments["item"])
        return self.answer()

    def answer(self) -> ToolResult:
        return ToolResult({"basket": list(self.basket)})

    def outcome(self, conversation: Conversation) -> float:
        return float(set(self.basket) == {self.wish})


class Buyer:
    """Asks, and leaves after three answers."""

    def __init__(self, wish: str) -> None:
        self.wish = wish

    async def reply(self, conversation: Conversation) -> UserReply:
        turns = sum(message.role == "assistant" for message in conversation)
        return UserReply(f"The {self.wish}, please. ({turns})", done=turns > 2)


class Shelf(Environment[Task]):
    """Six things to order."""

    made: ClassVar[type[ShelfWorld]] = ShelfWorld
    buyer: ClassVar[type[Buyer]] = Buyer

    def tasks(self) -> Sequence[Task]:
        return [
            Task(
                goal_id=f"order-{item}",
                source_id=item,
                split="",
                role=role,
                kind="task",
                title=f"Order the {item}",
                message=(f"You want the {item}.",),
                calls=(WantedCall("order", {"item": item}),),
                excluded=None,
            )
            for item, role in zip(ITEMS, itertools.cycle(("train", "val", "test")), strict=False)  # type: ignore[misc]
        ]

    def world(self, task: Task, *, searching: bool = False) -> World:
        return self.made(task.source_id)

    def user(self, task: Task, seed: int, max_turns: int) -> User:
        return self.buyer(task.source_id)


class SharedBasketWorld(ShelfWorld):
    def fork(self) -> Self:
        return copy.copy(self)


class SharedBasket(Shelf):
    """Forks share a list."""

    made = SharedBasketWorld


class ItselfWorld(ShelfWorld):
    def fork(self) -> Self:
        return self


class Itself(Shelf):
    """A fork is the world itself."""

    made = ItselfWorld


class ForgettingWorld(ShelfWorld):
    def fork(self) -> Self:
        return type(self)(self.wish)


class Forgetting(Shelf):
    """A fork begins anew."""

    made = ForgettingWorld


class HandleWorld(ShelfWorld):
    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.handle = threading.Lock()


class Handle(Shelf):
    """What a world holds cannot be copied."""

    made = HandleWorld


class StockWorld(ShelfWorld):
    stock: ClassVar[list[str]] = []

    def answer(self) -> ToolResult:
        self.stock.append(self.wish)
        return ToolResult({"sold before": len(self.stock)})


class Stock(Shelf):
    """All worlds share a list."""

    made = StockWorld


class ClockWorld(ShelfWorld):
    def answer(self) -> ToolResult:
        return ToolResult({"at": int(time.time())})


class Clock(Shelf):
    """Results tell the time, in whole seconds."""

    made = ClockWorld


class RandomIdWorld(ShelfWorld):
    def answer(self) -> ToolResult:
        return ToolResult({"order": {"id": str(uuid.uuid4())}})


class RandomId(Shelf):
    """Results hold a random id."""

    made = RandomIdWorld


class NumberedWorld(ShelfWorld):
    number = 0

    def answer(self) -> ToolResult:
        return ToolResult({"number": self.number})

    def outcome(self, conversation: Conversation) -> float:
        self.number += 1
        return super().outcome(conversation)


class Numbered(Shelf):
    """To ask for the outcome counts a number up, which results show."""

    made = NumberedWorld


class VanishingWorld(ShelfWorld):
    def milestones(self) -> frozenset[int]:
        return frozenset({0} if self.basket[-1:] == [self.wish] else ())


class Vanishing(Shelf):
    """Another order takes the milestone away."""

    made = VanishingWorld


class StrayWorld(ShelfWorld):
    def milestones(self) -> frozenset[int]:
        return frozenset(range(len(self.basket)))


class Stray(Shelf):
    """Milestones are earned that the task does not have."""

    made = StrayWorld


class ForgivingWorld(ShelfWorld):
    @property
    def void(self) -> bool:
        return len(self.basket) % 2 == 1

    def outcome(self, conversation: Conversation) -> float:
        return 0.5


class Forgiving(Shelf):
    """A void world becomes playable again."""

    made = ForgivingWorld

    def oracle(self, task: Task) -> None:
        return None


class GenerousWorld(ShelfWorld):
    def outcome(self, conversation: Conversation) -> float:
        return len(self.basket) * super().outcome(conversation)


class Generous(Shelf):
    """Who orders twice is rewarded twice."""

    made = GenerousWorld


class RaisingWorld(ShelfWorld):
    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if arguments["item"] not in ITEMS:
            return ToolResult("There is no such thing.", error=True)
        return super().call(tool, arguments)


class Raising(Shelf):
    """A call without its argument raises."""

    made = RaisingWorld


class SetWorld(ShelfWorld):
    def answer(self) -> ToolResult:
        return ToolResult({"basket": set(self.basket)})


class NoJson(Shelf):
    """Results hold a set."""

    made = SetWorld

    def oracle(self, task: Task) -> None:
        return None


def with_tool(**changes: Any) -> type[ShelfWorld]:
    """A world whose tool says something else of itself."""
    return type("Told", (ShelfWorld,), {"tools": (replace(ORDER, **changes),)})


class WrongSchema(Shelf):
    """A type that JSON Schema does not have."""

    made = with_tool(parameters={"type": "object", "properties": {"item": {"type": "text"}}})


class Required(Shelf):
    """A required argument that is no property."""

    made = with_tool(parameters={"type": "object", "properties": {"item": {}}, "required": ["colour"]})


class Undescribed(Shelf):
    """A tool that says nothing."""

    made = with_tool(description=" ")


class ShiftingWorld(ShelfWorld):
    @property
    def tools(self) -> tuple[Tool, ...]:  # type: ignore[override]
        return (ORDER, replace(ORDER, name="return")) if self.basket else (ORDER,)


class Shifting(Shelf):
    """A call brings another tool."""

    made = ShiftingWorld


class CountingBuyer(Buyer):
    asked = 0

    async def reply(self, conversation: Conversation) -> UserReply:
        self.asked += 1
        return UserReply(f"Message {self.asked}: the {self.wish}.", done=self.asked > 20)


class HiddenState(Shelf):
    """The user counts how often it was asked."""

    buyer = CountingBuyer


class MoodyBuyer(Buyer):
    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.mood = random.random()

    async def reply(self, conversation: Conversation) -> UserReply:
        return UserReply(f"The {self.wish}, {self.mood}.", done=False)


class Moody(Shelf):
    """Each user of a task says something else."""

    buyer = MoodyBuyer


class Twins(Shelf):
    """One id names all tasks."""

    def tasks(self) -> Sequence[Task]:
        return [replace(task, goal_id="order") for task in super().tasks()]


class Leaking(Shelf):
    """All tasks are of one source, whatever their role."""

    def tasks(self) -> Sequence[Task]:
        return [replace(task, source_id="lamp") for task in super().tasks()]


class GivenWorld(ShelfWorld):
    def milestones(self) -> frozenset[int]:
        return self.all_milestones


class Given(Shelf):
    """Everything is earned before anything was done."""

    made = GivenWorld


class Unsolved(Shelf):
    """The oracle orders the wrong thing."""

    def oracle(self, task: Task) -> Sequence[WantedCall]:
        return [WantedCall("order", {"item": next(item for item in ITEMS if item != task.source_id)})]


class Closed(Shelf):
    """No world can be made."""

    def world(self, task: Task, *, searching: bool = False) -> World:
        raise ValueError("closed on Mondays")
