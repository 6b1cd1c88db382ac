"""Settings that this machine cannot run are refused before anything is read, played or launched."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.cli import run as main
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings import Settings, load_settings
from josh_pipeline.stages.registry import BY_NAME, open_home
from josh_pipeline.stages.runnable import require_runnable
from josh_pipeline.stages.stage import start_step

OWN = f"{Path(__file__).with_name('own_methods.py')}:LastMessage"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "quantization": ({"policy": {"quantization": "nf4"}}, "policy.quantization nf4 needs a GPU and bitsandbytes"),
    "engine": ({"policy": {"backend": "vllm"}}, "vLLM is not installed: pip install"),
    "optimizer": ({"training": {"optimizer": "adamw_8bit"}}, "training.optimizer adamw_8bit needs bitsandbytes"),
    "trainer": ({"training": {"method": OWN, "packed": False}}, "TRL has no trainer for training.method"),
    "folder": ({"policy": {"model": "./no/model"}}, "There is no folder no/model"),
    "files": ({"policy": {"model": str(Path(__file__).parent)}}, "holds no config.json"),
}


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("vllm", "bitsandbytes") else real(name)
    )


def settings(asked: dict[str, Any]) -> Settings:
    return load_settings("quickstart", asked)


@pytest.mark.parametrize("what", REFUSED)
def test_josh_iterate_refuses_it_before_a_home_has_a_store(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, told = REFUSED[what]
    profile = tmp_path / "mine.yaml"
    profile.write_text(yaml.safe_dump({"extends": "quickstart"} | asked))
    assert main(["iterate", "--profile", str(profile), "--home", str(tmp_path / "home")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("josh: ") and told in line
    assert not open_home(tmp_path / "home").store.exists()


@pytest.mark.parametrize("stage", ["cold_start", "policy"])
def test_so_do_the_first_steps_of_what_dagster_launches(stage: str, tmp_path: Path) -> None:
    asked, told = REFUSED["optimizer"]
    step = start_step(open_home(tmp_path), settings(asked), "run", SilentProgress())
    with pytest.raises(UserError, match=told):
        BY_NAME[stage].run(step, "001")


def test_an_endpoint_asks_nothing_of_this_machine() -> None:
    policy = {"endpoint": "http://localhost:1/v1", "model": "/no/model", "quantization": "nf4", "backend": "vllm"}
    require_runnable(settings({"policy": policy}))
    require_runnable(settings({}))
