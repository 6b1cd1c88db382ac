"""Classes in the form that TRL's environment factory takes, whole and broken."""

import copy
import threading
import time
from typing import Any, Literal


class Base:
    """You count to what is asked for."""

    closed = 0

    def reset(self, goal: int = 2, **_: Any) -> str:
        self.goal, self.count, self.wrong = goal, 0, False
        return f"Count to {goal}."

    def add(self, number: int, how: Literal["up", "down"] = "up") -> dict[str, int]:
        """Add a number.

        Args:
            number: what is added.
            how: which way.
        """
        if number > 9:
            raise ValueError("one digit")
        self.count += number if how == "up" else -number
        self.wrong |= self.count < 0
        return {"count": self.count}

    @property
    def void(self) -> bool:
        return self.wrong

    def demonstration(self) -> list[dict[str, Any]]:
        return [{"tool": "add", "arguments": {"number": self.goal}}]

    def close(self) -> None:
        type(self).closed += 1


class Counter(Base):
    """You count to what is asked for."""

    @property
    def success(self) -> bool:
        return self.count == self.goal


class Stepper(Base):
    """Two milestones by name, a tool that comes with the first, and instructions of its own."""

    instructions = "Go step by step."

    def more(self) -> str:
        """Go on."""
        return "went on"

    def tools(self) -> list[str]:
        return ["add", "more"] if self.count else ["add"]

    def milestones(self) -> dict[str, bool]:
        return {"begun": self.count > 0, "there": self.count == self.goal}


class Broken(Counter):
    """Every call breaks something else."""

    def add(self, number: int) -> Any:
        """Break.

        Args:
            number: what breaks.
        """
        print("a print")
        match number:
            case 0:
                return {}[number]
            case 1:
                return {1, 2}
            case 2:
                return "x" * 200_000
            case 3:
                while True:
                    pass
            case 4:
                _deadlock()
        return "fine"


def _deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


class Mutating(Counter):
    """Success is used up by asking."""

    @property
    def success(self) -> bool:
        right, self.count = self.count == self.goal, 0
        return right


class Locked(Counter):
    """Holds what cannot be copied."""

    def reset(self, **given: Any) -> str:
        self.lock = threading.Lock()
        return super().reset(**given)


class Replayed(Locked):
    """The same, forked by repeating its calls."""

    fork = "replay"


class Forked(Locked):
    """The same, with a fork of its own."""

    def fork(self) -> "Forked":
        twin = copy.copy(self)
        twin.lock = threading.Lock()
        return twin


class Clock(Replayed):
    """Answers otherwise each time."""

    def add(self, number: int) -> float:
        """Add.

        Args:
            number: what is added.
        """
        self.count += number
        return time.perf_counter()


class Untyped(Counter):
    """One parameter says nothing."""

    def take(self, what) -> str:  # type: ignore[no-untyped-def]
        """Take.

        Args:
            what: a thing.
        """
        return "taken"


class Silent(Counter):
    """One tool says nothing."""

    def hush(self) -> str:
        return ""
