"""A refused environment in Dagster's UI: the check of its tasks is shown as failed, with the sentence."""

from pathlib import Path

import pytest
from browser import chromium, executable
from playwright.sync_api import expect
from served_ui import serving
from test_check_env_stage import GOALS, home_of

from assets.launch import instance_of, run_job
from josh_pipeline.core.errors import UserError

PAGE_MILLISECONDS = 60_000


def test_the_page_of_the_tasks_shows_the_failed_check_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable()
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home, step = home_of("SharedBasket", tmp_path)
    with instance_of(home) as instance, pytest.raises(UserError) as refused:
        run_job(instance, "prepare", home.keep_settings(step.settings), assets=["multiwoz_dialogues", GOALS])
    with serving(home, tmp_path) as ui:
        ui.wait_until_ready()
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            expect.set_options(timeout=PAGE_MILLISECONDS)
            page.goto(f"{ui.url}/assets/{GOALS}?view=checks&checkDetail=environment_forkable")
            expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
            expect(page.get_by_text(str(refused.value)).first).to_be_visible()
            expect(page.get_by_text("scripts played", exact=True).first).to_be_visible()
            page.screenshot(path=str(tmp_path / "check.png"))
