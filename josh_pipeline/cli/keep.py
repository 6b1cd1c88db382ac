"""``josh export`` and ``josh gc``: what leaves a home."""

import argparse
from pathlib import Path

from josh_pipeline.cli.options import partition
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.gc import find_waste, remove, undisturbed

FORMATS = ("parquet", "jsonl")
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def export(options: argparse.Namespace) -> int:
    """Write tables as Parquet and training rows as JSON lines, and print what was written."""
    from josh_pipeline.report.export import MANIFEST, export

    folder = Path(options.out)
    formats = FORMATS if options.format is None else (options.format,)
    for file in export(open_home(options.home), partition(options.iteration), folder, formats):
        print(f"{folder / file.name}  {file.rows:,} rows")
    print(folder / MANIFEST)
    return 0


def gc(options: argparse.Namespace) -> int:
    """Show what a home can do without, and remove it unless it is a dry run."""
    home = open_home(options.home)
    with undisturbed(home):
        waste = find_waste(home)
        for written in waste.generations:
            print(f"generation  {written.name}, written {written.created_at:%Y-%m-%d %H:%M}")
        for table, number in waste.rows.items():
            print(f"rows        {number:,} of {table}")
        for file in waste.files:
            print(f"files       {home.relative(file.path)}, {size_text(file.size)}: {file.why}")
        if not options.dry_run:
            remove(home, waste)
    verb = "Would remove" if options.dry_run else "Removed"
    rows = sum(waste.rows.values())
    print(
        f"{verb} {len(waste.generations)} generations with {rows:,} rows, and {len(waste.files)} files or "
        f"folders of {size_text(waste.size)}."
    )
    return 0


def size_text(size: int) -> str:
    """Bytes for people."""
    amount = float(size)
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
