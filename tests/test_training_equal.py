"""The same seed again: the same rows, and on one machine the same adapter."""

from pathlib import Path

import pytest
from finished_home import copied, finished_home, run_iteration
from tiny_loop import play_with

from josh_pipeline.settings.training import KtoSettings, LoraSettings
from josh_pipeline.store.home import Home


def of_round(home: Home, table: str, column: str) -> list[str]:
    rows = home.warehouse().rows(f"SELECT {column} FROM current_{table} WHERE iteration = '001' ORDER BY ALL")
    return [row[column] for row in rows]


def test_equal_seeds_give_equal_rows_and_an_equal_adapter(finished: Home, tmp_path: Path):
    again = finished_home(tmp_path, rounds=1)
    for table, column in (("preference_rows", "row_id"), ("trainings", "adapter_digest")):
        first = of_round(finished, table, column)
        assert first and of_round(again, table, column) == first
    assert not list(finished.training.iterdir()), "the folders of finished trainings are removed"


def test_kto_on_packed_trees_gives_equal_adapters_too(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    play_with(monkeypatch, lambda digest: 0.8)
    made = []
    for name in ("one", "two"):
        home = copied(finished, tmp_path / name)
        kto = KtoSettings(epochs=1, max_tokens=8192, processes=0, lora=LoraSettings(r=2, alpha=4))
        settings = home.settings().model_copy(update={"training": kto})
        run_iteration(home, settings, "001", f"kto-{name}")
        manifest = of_round(home, "trainings", "manifest")[0]
        made.append((of_round(home, "preference_rows", "row_id"), of_round(home, "trainings", "adapter_digest")))
        assert '"repeated_prefix_share"' in manifest
    assert made[0] == made[1]
    assert made[0][1] != of_round(finished, "trainings", "adapter_digest")
