"""``josh export``: tables as Parquet, training rows as JSON lines that TRL reads."""

import argparse
from pathlib import Path

from josh_pipeline.report.export import MANIFEST, export
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.step import iteration_key

FORMATS = ("parquet", "jsonl")


def command(options: argparse.Namespace) -> int:
    """Export and print what was written."""
    iteration = options.iteration
    if iteration is not None and iteration.isdigit():
        iteration = iteration_key(int(iteration))
    folder = Path(options.out)
    formats = FORMATS if options.format is None else (options.format,)
    for file in export(open_home(options.home), iteration, folder, formats):
        print(f"{folder / file.name}  {file.rows:,} rows")
    print(folder / MANIFEST)
    return 0
