"""Commands on a home: ``josh audit``, ``josh export`` and ``josh gc``."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from josh_pipeline.audit.chain import audit_row, source_use
from josh_pipeline.audit.text import home_lines, home_record, row_lines, row_record, source_lines
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.cli.options import partition, quiet_libraries
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import at_work
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.core.words import number_of
from josh_pipeline.stages.registry import read_home
from josh_pipeline.stages.stage import known_key
from josh_pipeline.store.gc import find_waste, remove, undisturbed
from josh_pipeline.store.home import Home


def audit(options: argparse.Namespace) -> int:
    """Audit; returns 1 where a link is broken."""
    home = read_home(options.home)
    target = options.target
    if options.html is not None and (target is None or options.source is not None):
        raise UserError("--html writes the page of one training row: give its id, and no --source.")
    if options.source is not None:
        if target is not None:
            raise UserError(f"--source follows a source through all iterations: leave {target} out.")
        use = source_use(home.warehouse(), options.source)
        show(options.json, asdict(use), source_lines(use))
        return 0
    # A page is of a row, and else an iteration that is there comes before rows whose ids begin with its number.
    iteration = known_key(home.warehouse(), target) if target is not None and options.html is None else None
    if target is not None and iteration is None:
        return _row(home, target, options)
    with TerminalProgress(Console(stderr=True)) as progress:
        found, known, chosen = audit_home(home, iteration, progress)
    show(options.json, home_record(found, known, chosen), home_lines(found, known, chosen))
    return 0 if found.sound else 1


def _row(home: Home, prefix: str, options: argparse.Namespace) -> int:
    found = audit_row(home, prefix)
    if options.html is not None:
        # Imported where it is used: drawing takes longer than the audit of a row.
        from josh_pipeline.report.pages import write_page
        from josh_pipeline.report.viewer import load_row_page

        write_page(Path(options.html), load_row_page(home.warehouse(), found))
        print(options.html)
    else:
        show(options.json, row_record(found), row_lines(found))
    return 0 if found.audit.sound else 1


def show(as_json: bool, record: Any, lines: Iterable[str]) -> None:
    """Print one JSON object, or lines."""
    if as_json:
        print(json.dumps(record, default=str))
    else:
        for line in lines:
            print(line)


FORMATS = ("parquet", "jsonl")


def export(options: argparse.Namespace) -> int:
    """Write tables and training rows, or a model, and print what was written."""
    if options.model is not None:
        return _export_model(options)
    from josh_pipeline.report.export import MANIFEST, export

    folder = Path(options.out)
    formats = FORMATS if options.format is None else (options.format,)
    for file in export(read_home(options.home), partition(options.iteration), folder, formats):
        print(f"{folder / file.name}  {number_of(file.rows, 'row')}")
    print(folder / MANIFEST)
    return 0


def _export_model(options: argparse.Namespace) -> int:
    if options.iteration is not None or options.format is not None:
        raise UserError("--model exports one policy: name it after --model, and leave ITERATION and --format out.")
    # Imported where it is used: tables are exported without what loads models.
    from josh_pipeline.report.export_model import export_model

    quiet_libraries()
    home = read_home(options.home)
    with at_work(home.root):
        made = export_model(home, options.model, Path(options.out))
    print(f"{made.folder}  {made.name}, policy {made.policy.policy_digest}; its README.md says how it is served")
    if made.base is not None:
        print(f"{made.folder / 'adapter'}  adapter on {made.base}")
    return 0


def gc(options: argparse.Namespace) -> int:
    """Show what a home can do without, and remove it unless it is a dry run."""
    home = read_home(options.home)
    with undisturbed(home):
        waste = find_waste(home)
        for written in waste.generations:
            print(f"generation  {written.name}, written {written.created_at:%Y-%m-%d %H:%M}")
        for table, number in waste.rows.items():
            print(f"rows        {number:,} of {table}")
        for file in waste.files:
            print(f"files       {home.relative(file.path)}, {decimal(file.size)}: {file.why}")
        if not options.dry_run:
            remove(home, waste)
    verb = "Would remove" if options.dry_run else "Removed"
    generations, rows = number_of(len(waste.generations), "generation"), number_of(sum(waste.rows.values()), "row")
    files = number_of(len(waste.files), "file or folder", "files or folders")
    print(f"{verb} {generations} with {rows}, and {files} of {decimal(waste.size)}.")
    return 0
