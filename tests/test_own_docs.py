"""What README and docs/your-own-agent.md show runs as it stands there, and is the example's own code."""

import json
from pathlib import Path
from typing import Any

import pytest

from josh_pipeline.cli.main import main
from josh_pipeline.core.environment import ROLES
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.promises import check_playable, kept_tasks
from josh_pipeline.environments.registry import environment_class

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your-own-agent.md").read_text()
EXAMPLE = (ROOT / "examples" / "support_desk.py").read_text()


def blocks(text: str, language: str) -> list[str]:
    return [part.partition("\n```")[0] for part in text.split(f"```{language}\n")[1:]]


def code_lines(text: str) -> list[str]:
    """Lines without indentation; blank ones are left out."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_the_pages_code_is_the_examples() -> None:
    *shown, trl = blocks(PAGE, "python")
    assert len(shown) > 5
    example = code_lines(EXAMPLE)
    for block in map(code_lines, shown):
        assert any(example[start : start + len(block)] == block for start in range(len(example))), block
    assert "environment_factory=SupportDesk" in trl
    assert len(EXAMPLE.splitlines()) <= 120


def test_the_pages_commands_print_tasks_and_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calls.jsonl").write_text(blocks(PAGE, "json")[0])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    goals, replay = (line.split()[1:] for line in blocks(PAGE, "sh")[0].splitlines())
    assert main(goals) == 0
    assert len(capsys.readouterr().out.splitlines()) == 300
    assert main(replay) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["results"][0]["state"], answer["earned"], answer["reward"]) == ("paid", [0], 1.0)


def readme_class(folder: Path) -> Any:
    """The class of README.md as an environment."""
    code = next(block for block in blocks((ROOT / "README.md").read_text(), "python") if "class Lights" in block)
    (folder / "lights.py").write_text(code)
    return environment_class(f"{folder / 'lights.py'}:Lights")


def test_the_readmes_class_has_tasks_of_all_roles_that_its_calls_solve(tmp_path: Path) -> None:
    cls = readme_class(tmp_path)
    environment = cls(cls.Settings(name=f"{tmp_path / 'lights.py'}:Lights"))
    tasks = kept_tasks(environment)
    assert {task.role for task in tasks} == set(ROLES)
    for task in tasks:
        check_playable(environment, task)
        found = solved_by_oracle(environment, task)
        assert found is not None and found.solvable


def test_the_example_has_six_kinds_of_tasks_all_solvable_some_of_three_calls_and_some_to_be_refused() -> None:
    name = f"{ROOT / 'examples' / 'support_desk.py'}:SupportDesk"
    cls = environment_class(name)
    environment = cls(cls.Settings(name=name))
    tasks: Any = kept_tasks(environment)
    assert len(tasks) == 300
    kinds = {(task.source_id.partition("-")[0], task.solution[-1].tool) for task in tasks}
    assert len(kinds) >= 6
    assert {len(task.solution) for task in tasks} == {1, 2, 3}
    assert 60 < sum(task.solution[-1].tool == "refuse" for task in tasks) < 150
    assert all((found := solved_by_oracle(environment, task)) is not None and found.solvable for task in tasks)
