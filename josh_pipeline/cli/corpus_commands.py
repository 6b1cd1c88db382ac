"""``josh goals``, ``replay`` and ``solvability``: what needs a corpus and no home but its cache."""

import argparse
import io
import sys
from pathlib import Path

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.environments.toolwoz import goal_lines, replay, solvability
from josh_pipeline.environments.toolwoz.load import load_corpus
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.stages.corpus import Bar
from josh_pipeline.stages.registry import open_home


def command(options: argparse.Namespace) -> int:
    """Load the corpus and run the command that was asked for."""
    if options.which == "replay":
        return _replay(options)
    corpus = load(options)
    if options.which == "goals":
        return goal_lines.run(corpus, options.split, options.semantics, sys.stdout)
    return solvability.run(corpus, sys.stdout, options.json)


def load(options: argparse.Namespace) -> Corpus:
    """Load a corpus; a home is made only where a download has to be kept."""
    if not options.corpus.startswith(("http://", "https://")):
        return load_corpus(options.corpus, Path())
    with TerminalProgress() as progress:
        bar = Bar(progress)
        corpus = load_corpus(options.corpus, open_home(options.home).cache, progress=bar)
        bar.close()
    return corpus


def _replay(options: argparse.Namespace) -> int:
    if options.calls == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # as a file is read
        return replay.run(load(options), options.semantics, sys.stdin, sys.stdout)
    try:
        with Path(options.calls).open(encoding="utf-8", errors="replace") as lines:
            return replay.run(load(options), options.semantics, lines, sys.stdout)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as fault:
        raise UserError(f"{options.calls} cannot be read ({fault.strerror}): give a file of calls.") from None
