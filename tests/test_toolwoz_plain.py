"""``paper`` semantics against an independent implementation that filters data frames."""

import importlib.util
from pathlib import Path

import pytest
from toolwoz_town import corpus_of, dinner, journey, real_corpus

from josh_pipeline.environments.toolwoz.goals import derive_goals

SOURCE = Path(__file__).parent.parent / "benchmarks" / "world.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_world", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "record",
    [dinner(), dinner("curry garden"), journey(), journey(leaveAt="09:30", arriveBy="11:45")],
    ids=["solvable", "target outside the goal", "train", "times"],
)
def test_the_baseline_and_paper_agree_in_the_small_town(benchmark, record):
    corpus = corpus_of(record)
    calls = benchmark.mixed_calls(derive_goals(corpus, "paper"), 60, seed=1)
    assert benchmark.disagreements(corpus, calls) == 0


def test_the_baseline_and_paper_agree_on_the_real_validation_list(benchmark):
    corpus = real_corpus()
    calls = benchmark.mixed_calls(derive_goals(corpus, "paper"), 120, seed=2)
    assert benchmark.disagreements(corpus, calls) == 0
