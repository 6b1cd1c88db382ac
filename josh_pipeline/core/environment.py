"""What an environment is: tasks with roles, worlds to play them in, and users who want something.

An environment of one's own subclasses ``Environment`` and gives ``tasks``, ``world`` and ``user``; all else
has a default. Its class is found by name in ``josh_pipeline.environments.registry``.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.errors import UserError, quoted
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User
from josh_pipeline.core.world import CallRecord, World, judged

Role = Literal["train", "val", "test"]
"""``train`` is harvested, ``val`` gates promotion, ``test`` is what tables and figures show."""
ROLES: tuple[Role, ...] = ("train", "val", "test")
ROLE_SHARES: Mapping[Role, int] = {"train": 50, "val": 20, "test": 30}
"""Percent of the tasks whose sources name no roles."""
_DRAWN = tuple(role for role, percent in ROLE_SHARES.items() for _ in range(percent))


def drawn_role(source_id: str) -> Role:
    """Draw the role of a source's tasks by a hash of its id, so that it is the same wherever the source is found."""
    return _DRAWN[derived_seed("role", source_id) % 100]


class Section(BaseModel):
    """A group of settings: immutable, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvironmentSettings(Section):
    """Which environment is played, and with what; an environment with settings of its own subclasses it."""

    name: str

    @property
    def shown(self) -> str:
        """What is played, for people: without a folder, and what may be secret in an address."""
        module, colon, attribute = self.name.rpartition(":")
        return f"{Path(module).name}:{attribute}" if colon else self.name

    def source_key(self) -> Any:
        """What the environment reads from outside depends on this alone (JSON)."""
        return self.model_dump(mode="json")

    def tasks_key(self) -> Any:
        """What else its tasks and rules depend on (JSON)."""
        return None

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return values as a profile or a stored run has them, under the names that the settings have now."""
        return values


@dataclass(frozen=True)
class WantedCall:
    """A tool call that a task asks for.

    Attributes:
        tool: its name.
        parameters: what it is called with.
    """

    tool: str
    parameters: Mapping[str, Any]

    @property
    def groups(self) -> Mapping[str, str]:
        """What scores are broken down by, e.g. ``{"domain": "orders"}``; by tool they always are."""
        return {}

    @property
    def label(self) -> str:
        """What failures of this call are counted under."""
        return self.tool


@dataclass(frozen=True)
class Task:
    """What is played: somebody wants something.

    Attributes:
        goal_id: content hash of all that the task is.
        source_id: what it was derived from: tasks of one source never have different roles.
        split: the list of its source that names it; empty where there are no lists.
        role: what the loop does with it.
        kind: one of the environment's ``kinds``.
        title: for people, what task of what source it is.
        message: what the user wants, for people, one sentence or group an element.
        calls: tool calls that are wanted; the position of a call is the id of its milestone. Empty where
            milestones are no calls.
        excluded: why the task cannot be used, None for a usable one.
    """

    goal_id: str
    source_id: str
    split: str
    role: Role
    kind: str
    title: str
    message: tuple[str, ...]
    calls: tuple[WantedCall, ...]
    excluded: str | None


@dataclass(frozen=True)
class Source:
    """A record that tasks are derived from, as it was read; ``content`` is JSON."""

    source_id: str
    split: str
    content: Any


@dataclass(frozen=True)
class Snapshot:
    """What an environment read from outside, kept in the store: runs go on from it, audits recompute from it.

    Attributes:
        name: for people, e.g. ``multiwoz-2.1-dev``.
        digest: content hash of all that was read.
        source: where it was read, for people.
        licence: one sentence; empty where there is none to name.
        sources: records that tasks are derived from; empty where tasks come with the code.
        entities: collection to its rows (JSON), in order: what worlds look things up in.
    """

    name: str
    digest: str
    source: str
    licence: str
    sources: tuple[Source, ...] = ()
    entities: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Carelessness:
    """How often a scripted agent errs on purpose; all zero: never.

    Attributes:
        claimed: share of the writes (bookings, orders) that are claimed and not made.
        dropped: share of the calls with two arguments or more that leave one out.
        denied: share of the results that are denied to the user.
    """

    claimed: float = 0.0
    dropped: float = 0.0
    denied: float = 0.0


T = TypeVar("T", bound=Task)


class Environment(ABC, Generic[T]):
    """Tasks, and all that is needed to play them.

    Args:
        settings: validated by ``Settings``.

    Attributes:
        Settings: the settings that it takes.
        Task: the class of its tasks; a frozen dataclass whose fields JSON can hold.
        kinds: kind of task to what people call several of them; scores of different kinds never mix.
        notes: kind of task to what a reader of its scores has to know; kinds that need no note are left out.
        scores: kind of task to the name under which success on it is published; kinds without one are left out.
        agent: whom the user talks to, as an LLM that plays the user is told.
        least_solvable: share of the tasks that the oracle has to solve, lest they say more about their source
            than about a policy.
        source_asset, tasks_asset: what Dagster calls what was read, and the tasks: the built-in environment's
            names stand for all environments.
        id_name: what the lines of ``josh replay`` call the source of a task.
        code: content hash of the file that the class was imported from.
    """

    Settings: ClassVar[type[EnvironmentSettings]] = EnvironmentSettings
    Task: ClassVar[type[Task]] = Task
    kinds: Mapping[str, str] = {"task": "tasks"}
    notes: Mapping[str, str] = {}
    scores: Mapping[str, str] = {}
    agent: str = "an agent that helps people"
    least_solvable: float = 1.0
    source_asset: ClassVar[str] = "environment_sources"
    tasks_asset: ClassVar[str] = "environment_tasks"
    id_name: ClassVar[str] = "source_id"

    code: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Note the code of the class as it is imported: the file may be edited while it is in use."""
        super().__init_subclass__()
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        cls.code = content_id(Path(file).read_text()) if file is not None else ""

    def __init__(self, settings: EnvironmentSettings) -> None:
        self.settings = settings

    @abstractmethod
    def tasks(self) -> Sequence[T]:
        """Every task, excluded ones too, in a fixed order."""

    @abstractmethod
    def world(self, task: T, *, searching: bool = False) -> World:
        """Return a fresh world of a task.

        Args:
            searching: the search asks, not the benchmark.
        """

    @abstractmethod
    def user(self, task: T, seed: int, max_turns: int) -> User:
        """Return the rule-based user of a task: a pure function of task, seed and visible conversation.

        Args:
            max_turns: the user gives up after this many messages.
        """

    @property
    def played(self) -> str:
        """The kind of task that policies are evaluated on, for tables and the gate."""
        return next(iter(self.kinds))

    def searched(self, round: int) -> str:
        """Return the kind of task that a round searches; the cold start demonstrates that of the first.

        Args:
            round: 1 for the first that goes on from a base.
        """
        return self.played

    @property
    def headline(self) -> str:
        """The kind of task that published scores are of."""
        return next(iter(self.scores), self.played)

    @property
    def digest(self) -> str:
        """Content hash of all that tasks and rules depend on; by default the files of the class and its bases."""
        code = [vars(one)["code"] for one in type(self).__mro__ if issubclass(one, Environment)]
        settings = self.settings.model_dump(mode="json", exclude={"name"})
        return content_id(settings, [task.goal_id for task in self.tasks()], code)

    @property
    def user_version(self) -> int:
        """Raised when the words or choices of the rule-based user change: scores then do not compare."""
        return 1

    @property
    def rules_digest(self) -> str:
        """Content hash of what an agent is told beside the task's own words: instructions, tools, results."""
        first = next((task for task in self.tasks() if task.excluded is None), None)
        if first is None:
            return content_id("rules")
        world = self.world(first)
        tools = [[tool.name, tool.description, dict(tool.parameters)] for tool in world.tools]
        return content_id("rules", world.instructions, tools)

    def fault(self, call: CallRecord) -> str:
        """Name why a call was refused, for counts."""
        return "refused call"

    def gave_up(self, conversation: Conversation) -> bool:
        """Whether the rule-based user, who ended a conversation, said that it leaves unserved."""
        return False

    def unmade(self, task: T, call: WantedCall, conversation: Conversation, calls: Sequence[CallRecord]) -> str | None:
        """Name, for counts, what a conversation says of a wanted call that it never made, e.g. that it was claimed.

        Args:
            conversation: all of it, internal messages included.
            calls: those that were made.
        """
        return None

    def roles_sentence(self) -> str:
        """Say where the tasks' roles come from."""
        return "Roles are named by the tasks."

    def oracle(self, task: T) -> Sequence[WantedCall] | None:
        """Return calls that solve a task; None where nobody knows."""
        return task.calls or None

    def demonstrator(self, task: T, user: User, careless: Carelessness, seed: int) -> Policy | None:
        """Return a scripted agent that plays a task with its rule-based user; None where there is none.

        It writes the compact format, errs as often as ``careless`` says, and is a pure function of its
        arguments and the conversation. Careful, it measures how many tasks the user lets anybody solve.
        """
        return None

    def lines(self, task: T) -> tuple[str, ...]:
        """Return what a real user said, line by line, for the ``script`` user; empty where nobody did."""
        return ()

    def transcript(self, task: T) -> str:
        """Return a real conversation about the task, for the ``guide`` user; empty where there is none."""
        return ""

    def selection(self, name: str, tasks: Sequence[T]) -> Sequence[T]:
        """Return the tasks of a published selection, e.g. ``test-450``, in its order.

        Args:
            tasks: all tasks, excluded ones too.

        Raises:
            UserError: there is no such selection.
        """
        raise UserError(f"{self.settings.name} has no selection {name!r}: use --role.")

    def listed(self) -> Sequence[T]:
        """Return the tasks that ``josh goals`` prints and ``josh replay`` plays."""
        return self.tasks()

    def listed_task(self, name: str) -> T:
        """Return the listed task that a line of ``josh replay`` names.

        Args:
            name: a source, or a task's own id.

        Raises:
            UserError: there is no such task, it is excluded, or the source has several.
        """
        found = self._listed_by_name.get(name, ())
        if not found:
            raise UserError(f"There is no task of source {quoted(name)}.")
        if len(found) > 1:
            raise UserError(f"Source {quoted(name)} has {len(found)} tasks: give the goal_id of one.")
        if found[0].excluded is not None:
            raise UserError(f"The task of source {quoted(name)} is excluded: {found[0].excluded}.")
        return found[0]

    @cached_property
    def _listed_by_name(self) -> Mapping[str, Sequence[T]]:
        named: dict[str, list[T]] = {}
        for task in self.listed():
            for name in {task.source_id, task.goal_id}:
                named.setdefault(name, []).append(task)
        return named

    def goal_record(self, task: T) -> dict[str, Any]:
        """Return what ``josh goals`` prints of a task (JSON)."""
        return {
            "goal_id": task.goal_id,
            "source_id": task.source_id,
            "split": task.split,
            "role": task.role,
            "message": task.message,
            "calls": [{"tool": call.tool, "parameters": call.parameters} for call in task.calls],
            "excluded": task.excluded,
        }

    def replay_record(
        self, task: T, world: World, results: Sequence[Any], conversation: Conversation
    ) -> dict[str, Any]:
        """Return what ``josh replay`` prints of a line (JSON).

        Args:
            world: as the calls and replies left it.
            results: payloads, a call each.
            conversation: what the agent said.
        """
        return {
            "source_id": task.source_id,
            "results": results,
            "earned": sorted(world.milestones()),
            "void": world.void,
            "reward": judged(world, conversation),
        }

    @classmethod
    def read(cls, settings: EnvironmentSettings, cache: Path, progress: Progress) -> Self:
        """Read what the environment needs from outside.

        Args:
            cache: folder where downloads are kept.

        Raises:
            UserError: it is not there, or damaged.
        """
        return cls(settings)

    def snapshot(self) -> Snapshot:
        """Return what ``read`` read, to be kept in the store."""
        return Snapshot(self.settings.shown, self.digest, self.settings.name, "")

    @classmethod
    def restore(cls, settings: EnvironmentSettings, snapshot: Snapshot) -> Self:
        """Return the environment that gave a snapshot.

        Args:
            snapshot: without ``sources`` where only worlds are asked for.
        """
        return cls(settings)

    def check_digest(self) -> str | None:
        """Compute the digest of what was read anew, from what was restored.

        Returns:
            What ``Snapshot.digest`` has to be; None where it names more than the snapshot holds, e.g. the
            bytes of files.
        """
        return self.digest
