"""What an environment promises of its tasks, held before anything is played.

What it breaks later, in one conversation, is a typed failure of that conversation: ``world.called`` and its like.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from josh_pipeline.core.environment import ROLES, Environment, Role, T, Task
from josh_pipeline.core.errors import UserError, at_fault, failing_as, quoted
from josh_pipeline.core.world import Tool, World, judged


def kept_tasks(environment: Environment[T]) -> Sequence[T]:
    """Return every task of an environment, in its order.

    Raises:
        UserError: they cannot be had, or are not what ``Task`` says.
    """
    with at_fault("Making the tasks"):
        tasks = list(environment.tasks())
        for task in tasks:
            if not isinstance(task, Task):
                raise UserError(f"tasks() holds a {type(task).__name__}: let it return instances of Task.")
            json.dumps([[call.tool, call.parameters] for call in task.calls])
    for task in tasks:
        if task.role not in ROLES:
            raise UserError(f"Task {task.goal_id} has the role {quoted(task.role)}: use {', '.join(ROLES)}.")
        if task.kind not in environment.kinds:
            raise UserError(f"Task {task.goal_id} has the kind {quoted(task.kind)}: name it in the kinds of its class.")
    require_distinct(tasks)
    return tasks


def require_distinct(tasks: Sequence[Task]) -> None:
    """Hold tasks to what all that follows relies on: an id names one task, and a source has one role.

    Raises:
        UserError: they break it.
    """
    ids = Counter(task.goal_id for task in tasks)
    if again := [name for name, number in ids.items() if number > 1]:
        raise UserError(
            f"Goal id {quoted(again[0])} names several tasks{_as_with(again)}: let goal_id name all that a task is."
        )
    roles: dict[str, set[Role]] = {}
    for task in tasks:
        roles.setdefault(task.source_id, set()).add(task.role)
    if mixed := [name for name, found in roles.items() if len(found) > 1]:
        raise UserError(
            f"Source {quoted(mixed[0])} has tasks of several roles{_as_with(mixed)}: give all tasks of a source one "
            "role, or what is trained on leaks into the evaluation."
        )


def _as_with(names: Sequence[str]) -> str:
    return f", as with {len(names) - 1} more" if len(names) > 1 else ""


def check_playable(environment: Environment[T], task: T) -> None:
    """Make the worlds and the user of a usable task, and look at what they say before anything was said.

    Raises:
        UserError: they cannot be made, or are not what ``World`` promises.
    """
    with at_fault(f"The world of task {task.goal_id}"):
        for searching in (False, True):
            world = environment.world(task, searching=searching)
            _check_world(world, task, searching)
    with at_fault(f"The user of task {task.goal_id}"):
        environment.user(task, 0, 2)


def _check_world(world: World, task: Task, searching: bool) -> None:
    if not isinstance(world, World):
        raise TypeError(f"a {type(world).__name__} is no World")
    if not isinstance(world.instructions, str):
        raise TypeError("instructions are no text")
    for tool in world.tools:
        _check_tool(tool)
    if searching and task.role == "train" and not world.all_milestones:
        raise UserError(
            f"Task {task.goal_id} has the role train and no milestones, so that no search could collect them: "
            "exclude it, or give it another role."
        )
    with failing_as("world", "fork()"):
        fork = world.fork()
    if stray := fork.milestones() - frozenset(world.all_milestones):
        raise ValueError(f"milestone {min(stray)} is none of all_milestones")
    judged(world, ())
    bool(world.void)


def _check_tool(tool: Tool) -> None:
    """Hold a tool to what agents and endpoints read of it."""
    if not isinstance(tool, Tool) or not isinstance(tool.name, str):
        raise TypeError("tools hold something that is no Tool with a name")
    schema = tool.parameters
    if not isinstance(schema, Mapping) or not isinstance(schema.get("properties", {}), Mapping):
        raise TypeError(f"the parameters of {tool.name} are no JSON Schema of an object")
    if odd := [name for name, one in tool.properties.items() if not isinstance(one, Mapping)]:
        raise TypeError(f"parameter {odd[0]} of {tool.name} has no JSON Schema")
    json.dumps(dict(schema), allow_nan=False)
