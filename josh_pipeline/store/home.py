"""A home: the folder that holds a store, its model files, Dagster's records, downloads and reports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from josh_pipeline.core.command import home_root
from josh_pipeline.core.errors import UserError, quoted
from josh_pipeline.core.faults import Place
from josh_pipeline.settings import Settings, load_settings
from josh_pipeline.store.layout import Layout
from josh_pipeline.store.warehouse import Warehouse

PRIVATE = 0o077
"""What this process takes from others of what it writes: homes are 0700, files 0600."""


class Inside:
    """An attribute of a home: a path in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, home: "Home", owner: type["Home"]) -> Path:
        return home.root / self.name


@dataclass(frozen=True)
class Home:
    """Where everything of a home lies.

    Attributes:
        root: absolute path of the folder.
        layout: which tables the stages write into its store.
    """

    root: Path
    layout: Layout

    store = Inside("josh.duckdb")
    """The DuckDB file."""
    models = Inside("models")
    """Foundations and bases (foundations with the cold start merged)."""
    adapters = Inside("adapters")
    """Adapters, a folder each, named by digest."""
    training = Inside("training")
    """Trainings at work: their checkpoints, until the adapter is written."""
    merged = Inside("merged")
    """Checkpoints of base and adapter in one: a cache that may be deleted."""
    dagster = Inside("dagster")
    """What DAGSTER_HOME is set to."""
    cache = Inside("cache")
    """Downloads."""
    reports = Inside("reports")
    """HTML reports."""
    logs = Inside("logs")
    """What Dagster and the engines print."""

    def warehouse(self) -> Warehouse:
        """Open the store, making it where there is none."""
        return Warehouse(self.store, self.layout)

    def relative(self, path: Path) -> str:
        """Write a path as it is stored: relative where it lies in the home, so that a home can move."""
        path = path.absolute()
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def absolute(self, stored: str) -> Path:
        """Read a stored path."""
        return self.root / stored

    def keep_settings(self, settings: Settings) -> str:
        """Keep settings as a profile file of this home.

        Returns:
            The digest, by which ``settings`` finds them again.
        """
        self._write_settings(settings.digest, settings)
        return settings.digest

    def remember_settings(self, settings: Settings) -> None:
        """Let these be the settings of the home's last run: what a run without a profile goes on with."""
        self._write_settings("last", settings)

    def _write_settings(self, name: str, settings: Settings) -> None:
        path = self.settings_file(name)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
        partial.replace(path)

    def settings_file(self, name: str) -> Path:
        """Where settings of a digest are kept; ``last`` are those of the last run."""
        return self.root / "settings" / f"{name}.yaml"

    def settings(
        self, profile: str = "", overrides: dict[str, object] | None = None, givers: Mapping[Place, str] | None = None
    ) -> Settings:
        """Read settings.

        Args:
            profile: a shipped profile, a YAML file, or the digest of settings that this home has kept;
                empty for those of the last run, or ``quickstart`` where there was none.
            overrides: nested mapping laid over them.
            givers: what gave them, for faults to name; see ``load_settings``.

        Raises:
            UserError: there is no such profile, or a setting is faulty.
        """
        kept = self.settings_file(profile or "last")
        if not kept.is_file():
            return load_settings(profile or "quickstart", overrides, givers)
        called = f"the run of settings {profile}" if profile else "the last run of this home"
        return load_settings(str(kept), overrides, givers, called)


def home_at(path: str | Path | None, layout: Layout) -> Home:
    """Return a home, making its folder where there is none.

    Args:
        path: the folder; None for ``$JOSH_HOME``, else ``./.josh``.

    Raises:
        UserError: the folder holds other things, or cannot be made or written to.
    """
    home = Home(home_root(path), layout)
    root = home.root
    os.umask(PRIVATE)
    try:
        if root.is_dir() and not home.store.exists():
            _refuse_other(root)
        for folder in (root, home.dagster, home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        root.chmod(0o777 & ~PRIVATE)
        probe = root / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as fault:
        raise UserError(
            f"The home {root} cannot be written to ({fault.strerror}): "
            "give a folder of your own with --home or JOSH_HOME."
        ) from None
    return home


def known_home(path: str | Path | None, layout: Layout) -> Home:
    """Return a home that holds a store, making nothing: what only reads has nothing to read elsewhere.

    Args:
        path: see ``home_at``.

    Raises:
        UserError: there is none.
    """
    home = Home(home_root(path), layout)
    os.umask(PRIVATE)
    try:
        home.store.stat()
    except OSError as fault:
        if not isinstance(fault, FileNotFoundError | NotADirectoryError):
            raise
        raise UserError(
            f"There is no home at {home.root}: run josh iterate first, or name a home with --home or JOSH_HOME."
        ) from None
    return home


def _refuse_other(root: Path) -> None:
    """Refuse a folder that something else lives in: ``josh gc`` removes what it finds in a home's folders.

    Raises:
        UserError: it holds what no home without a store does.
    """
    own = {place.name for place in vars(Home).values() if isinstance(place, Inside)} | {"settings", "locks"}
    others = sorted(
        one.name
        for one in root.iterdir()
        if not (one.name in own or one.suffix == ".lock" or one.name.startswith((".", "josh.")))
    )
    if others:
        raise UserError(
            f"{root} is no home, and holds other things ({quoted(others[0])}): name a new or an empty folder with "
            "--home or JOSH_HOME."
        )
