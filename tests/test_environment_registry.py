"""Environments by their names: what is found where, and one sentence for what is not."""

import pickle
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from josh_pipeline.core import named
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.own.environment import OwnEnvironment
from josh_pipeline.environments.registry import BUILT_IN, DEFAULT, GROUP, brought_commands, environment_class

PLACE = BUILT_IN[DEFAULT]
OWN = """
from josh_pipeline.core.environment import Environment

class Mine(Environment):
    pass

class Other:
    pass

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def refused(name: str) -> str:
    with pytest.raises(UserError) as fault:
        environment_class(name)
    text = str(fault.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_a_built_in_name_a_module_and_a_file_name_a_class(own: Path) -> None:
    assert environment_class(DEFAULT) is environment_class(PLACE)
    found = environment_class(f"{own}:Mine")
    assert found.__name__ == "Mine"
    assert environment_class(f"{own}:Mine") is found, "a class is imported once"


def test_two_files_of_one_name_are_two_modules_whose_classes_can_be_pickled(own: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / own.name
    other.write_text(OWN)
    first, second = environment_class(f"{own}:Mine"), environment_class(f"{other}:Mine")
    assert first is not second
    assert [pickle.loads(pickle.dumps(found)) for found in (first, second)] == [first, second]


def test_a_name_that_nobody_knows_says_which_there_are() -> None:
    said = refused("chess")
    assert "There is no environment 'chess'" in said
    assert f"use one of {', '.join(BUILT_IN)}" in said and "path/to/file.py:Class" in said


def test_other_packages_bring_environments_by_an_entry_point(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> list[EntryPoint]:
        assert group == GROUP == "josh.environments"
        return [EntryPoint("mine", f"{own}:Mine", group)]

    monkeypatch.setattr(named, "entry_points", entry_points)
    assert environment_class("mine") is environment_class(f"{own}:Mine")
    assert f"{DEFAULT}, mine, path/to" in refused("yours")


def test_a_class_in_the_form_of_trls_factory_is_wrapped_once_and_its_file_is_its_code(tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("class Plain:\n    def reset(self): ...\n    def success(self): ...\n")
    found = environment_class(f"{plain}:Plain")
    assert issubclass(found, OwnEnvironment) and found.__name__ == "Plain" and found.code
    assert environment_class(f"{plain}:Plain") is found


def test_a_class_that_is_not_there_or_is_something_else_is_one_sentence(own: Path) -> None:
    assert "has no class 'Absent'" in refused(f"{own}:Absent")
    assert "has no class 'number'" in refused(f"{own}:number")
    assert "Other is no environment: give it reset() and success()" in refused(f"{own}:Other")


def test_a_file_that_is_not_there_and_code_that_breaks_are_one_sentence(tmp_path: Path) -> None:
    assert "There is no file" in refused(f"{tmp_path}/absent.py:Mine")
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_package_of_ours\n")
    assert "cannot be imported (ModuleNotFoundError: No module named" in refused(f"{broken}:Mine")
    assert refused(f"{broken}:Mine").endswith("mend its code.")
    broken.write_text("def half(:\n")
    assert "SyntaxError" in refused(f"{broken}:Mine")
    assert "cannot be imported (ModuleNotFoundError" in refused("no_such_package_of_ours.till:Mine")


def test_commands_that_environments_bring_are_declared() -> None:
    assert [command.name for command in brought_commands()] == ["solvability"]
