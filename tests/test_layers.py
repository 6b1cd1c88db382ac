"""Rooms and the arrows between them: what imports what, and how many files a change touches."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "josh_pipeline"
LAYERS = (
    "core", "environments", "dialogue", "settings", "search", "harvest", "policies", "training", "evaluation",
    "store", "stages", "iteration", "audit", "report", "cli", "assets",
)  # fmt: skip
"""From what all stand on to what stands on all."""


def modules() -> dict[str, Path]:
    """Every module of library and assets, by its dotted name."""
    files = [*LIBRARY.rglob("*.py"), *(ROOT / "assets").glob("*.py")]
    return {dotted(path): path for path in files}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that one imports, also where it imports them late or for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{one.name}" for one in node.names]
            found = [one for one in inner if one in known]
            yield from found
            if node.module in known and len(found) < len(inner):
                yield node.module


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imports(name, path, known)) - {name} for name, path in known.items()}


def room(name: str) -> str:
    parts = name.split(".")
    return parts[0] if parts[0] == "assets" else parts[1] if len(parts) > 1 else "core"


def test_every_module_has_a_room():
    rooms = {room(name) for name in modules()}
    assert rooms == set(LAYERS)


def test_no_arrow_runs_up_the_layers():
    up = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if LAYERS.index(room(other)) > LAYERS.index(room(name))
    ]
    # The registry's only upward step is a name in a string: what it finds is imported when it is asked for.
    assert up == []


def test_no_files_import_each_other_in_a_circle():
    arrows = graph()
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == "done":
            return
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        for other in sorted(arrows[name]):
            visit(other, (*path, name))
        state[name] = "done"

    for name in sorted(arrows):
        visit(name, ())


def test_no_folders_import_each_other():
    folders: dict[str, set[str]] = {}
    for name, others in graph().items():
        here = folder(name)
        folders.setdefault(here, set()).update(folder(other) for other in others)
    mutual = {
        tuple(sorted((one, other)))
        for one, others in folders.items()
        for other in others
        if one != other and one in folders.get(other, ())
    }
    assert mutual == set()


def folder(name: str) -> str:
    return ".".join(name.split(".")[:3]) if "toolwoz" in name else room(name)


def test_the_library_imports_neither_dagster_nor_assets():
    for name, path in modules().items():
        if not name.startswith("josh_pipeline"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [one.name for one in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            foreign = [one for one in names if one.split(".")[0] in ("assets", "dagster", "dagster_webserver")]
            assert not foreign, f"{name} imports {foreign}"


def test_toolwoz_is_named_in_its_own_room_alone():
    listed = subprocess.run(
        ["git", "grep", "-il", "toolwoz", "--", "josh_pipeline", "assets"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    if not listed:
        pytest.skip("not a git checkout")
    elsewhere = [
        name
        for name in listed
        if not name.startswith(("josh_pipeline/environments/toolwoz/", "josh_pipeline/profiles/"))
    ]
    assert elsewhere == ["josh_pipeline/environments/registry.py"]


def test_domains_and_tools_of_toolwoz_are_named_in_its_own_room_alone():
    from josh_pipeline.environments.toolwoz.tools import TOOLS

    for name, path in modules().items():
        if "environments.toolwoz" in name:
            continue
        text = path.read_text()
        assert not [tool.name for tool in TOOLS if tool.name in text], name
