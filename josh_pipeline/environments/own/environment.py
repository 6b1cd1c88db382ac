"""The environment that is made of a class of one's own, in the form that TRL's ``environment_factory`` takes."""

import sys
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import ROLE_SHARES, Carelessness, Environment, EnvironmentSettings, Task, WantedCall
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.user import User
from josh_pipeline.core.world import World
from josh_pipeline.environments.own.kit import Kit, require_playable
from josh_pipeline.environments.own.talk import USER_VERSION, Demonstrator, ScriptReader
from josh_pipeline.environments.own.tasks import OwnTask, read_tasks, solution_of
from josh_pipeline.environments.own.world import OwnWorld


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


class OwnSettings(EnvironmentSettings):
    """A class of one's own: its public methods are the tools."""

    tasks: Annotated[str | None, AfterValidator(_absolute)] = Field(
        None, description="A file of JSON lines, a task each; unset: the tasks that the class names."
    )
    call_seconds: float = Field(10.0, gt=0, description="A call that takes longer fails its branch.")

    def source_key(self) -> Any:
        """The class and the file."""
        return [self.name, self.tasks]


class OwnEnvironment(Environment[OwnTask]):
    """What is made of a class: a subclass of this one for each; see ``environment_of``.

    Attributes:
        of: the class.
    """

    Settings: ClassVar[type[EnvironmentSettings]] = OwnSettings
    Task: ClassVar[type[Task]] = OwnTask
    of: ClassVar[type]

    def __init__(self, settings: OwnSettings) -> None:
        super().__init__(settings)
        self._file = Path(settings.tasks) if settings.tasks is not None else None
        self._kit = Kit(self.of, settings.call_seconds)

    @cached_property
    def _tasks(self) -> Sequence[OwnTask]:
        return read_tasks(self.of, self._file)

    def tasks(self) -> Sequence[OwnTask]:
        """Return the tasks of the file, or those that the class names."""
        return self._tasks

    @property
    def digest(self) -> str:
        """Content hash of the tasks and of the files of the class and its bases."""
        return content_id("own", self.code, [task.goal_id for task in self.tasks()])

    @property
    def user_version(self) -> int:
        """See ``USER_VERSION``."""
        return USER_VERSION

    def roles_sentence(self) -> str:
        """Say whether the tasks name their roles, or a hash draws them."""
        drawn = sum(task.role_drawn for task in self.tasks())
        if not drawn:
            return super().roles_sentence()
        shares = " : ".join(map(str, ROLE_SHARES.values()))
        return f"{drawn} of {len(self.tasks())} tasks name no role: theirs is drawn {shares} by a hash of the id."

    def world(self, task: OwnTask, *, searching: bool = False) -> World:
        """Return a world with a new instance of the class, reset for the task."""
        return OwnWorld(self._kit, task.given)

    def user(self, task: OwnTask, seed: int, max_turns: int) -> User:
        """Return the user who says the task's script."""
        return ScriptReader(task.script, max_turns)

    def lines(self, task: OwnTask) -> tuple[str, ...]:
        """Return the script; the last line is a farewell, which may be empty."""
        return (*(line.say for line in task.script), "")

    def oracle(self, task: OwnTask) -> Sequence[WantedCall] | None:
        """Return the calls that the task lists, else those of the class's ``demonstration``."""
        if task.solution or not self._kit.has("demonstration"):
            return task.solution or None
        instance, _ = self._kit.fresh(task.given)
        return solution_of(self._kit.ask(instance, "demonstration"))

    def demonstrator(self, task: OwnTask, user: User, careless: Carelessness, seed: int) -> Policy | None:
        """Return an agent that makes the oracle's calls; None where nobody knows them."""
        calls = self.oracle(task)
        return None if calls is None else Demonstrator(task.goal_id, task.script, calls, careless, seed)

    def goal_record(self, task: OwnTask) -> dict[str, Any]:
        """Return a task with the calls that it lists."""
        calls = [{"tool": call.tool, "parameters": call.parameters} for call in task.solution]
        return super().goal_record(task) | {"calls": calls}


@cache
def environment_of(cls: type) -> type[OwnEnvironment]:
    """Return the environment of a class.

    Raises:
        UserError: it has not the form of one.
    """
    require_playable(cls)

    class Made(OwnEnvironment):
        of = cls

    Made.__name__ = Made.__qualname__ = cls.__name__
    Made.__doc__, Made.__module__ = cls.__doc__, cls.__module__
    files = [getattr(sys.modules[one.__module__], "__file__", None) for one in cls.__mro__]
    Made.code = content_id([Path(file).read_text() for file in dict.fromkeys(files) if file])
    return Made
