"""The pages of Dagster's UI in a real browser, on the runs of a tiny loop."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from browser import chromium, executable
from playwright.sync_api import Page, expect
from served_ui import CHAIN, START_SECONDS, Ui, alive, descendants, served

PAGE_SECONDS = 30.0
RUNS = "{runsOrError{... on Runs{results{runId jobName assetSelection{path}}}}}"


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    executable()  # Before the home is filled, which takes a while.
    with served(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def page(ui: Ui) -> Iterator[Page]:
    """A page of headless Chromium whose scripts may not fail.

    Opened after the home is filled: Playwright leaves an event loop running, in which no other can start.
    """
    faults: list[str] = []
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.set_default_timeout(PAGE_SECONDS * 1000)
        shown.on("pageerror", lambda fault: faults.append(str(fault)))
        yield shown
    assert faults == []


def test_the_browser_shows_the_graph_materializes_a_partition_and_leads_to_figures_trees_and_rows(
    ui: Ui, page: Page
) -> None:
    ui.wait_until_ready()
    expect.set_options(timeout=PAGE_SECONDS * 1000)
    sees_the_graph(page, ui)
    sees_an_iteration(page, ui)
    follows_the_link_to_a_tree(page, ui)
    follows_the_link_to_a_row(page, ui)
    sees_how_the_model_is_exported(page, ui)
    sees_what_the_next_tick_would_do(page, ui)
    finds_the_homes_values_in_the_launchpad_and_is_told_what_was_meant(page, ui)
    materializes_a_partition(page, ui)
    sees_that_newer_rows_lie_unused(page, ui)
    sees_the_runs(page, ui)
    runs_an_iteration_again(page, ui)

    started = descendants(ui.process.pid)
    assert len(started) >= 3, "Dagster's webserver, its daemon and a code server"
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait(START_SECONDS) == 0
    assert alive(started) == []
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(ui.url)


def sees_the_graph(page: Page, ui: Ui) -> None:
    """Every asset of the iteration is a node of the graph; long names are cut in the middle."""
    page.goto(f"{ui.url}/locations/josh/asset-groups/iteration/lineage")
    nodes = page.locator("svg foreignObject")
    for name in CHAIN:
        short = re.compile(f"^{name}$|^{name[:6]}.*…{name[-11:]}$")
        expect(nodes.get_by_text(short)).to_be_visible()
    expect(page.get_by_text("Join the Dagster community")).to_have_count(0)
    page.goto(f"{ui.url}/asset-groups")
    for group in ("environment", "iteration", "benchmark"):
        box = nodes.filter(has=page.get_by_text(group, exact=True))
        expect(box).to_have_text(re.compile(rf"^{group}\s*\d$"))  # One count: what is materialized.


def sees_an_iteration(page: Page, ui: Ui) -> None:
    """The partition's metadata holds the numbers of the store, and a figure that is drawn."""
    scores = ui.home.warehouse().rows(
        "SELECT * FROM current_evaluations WHERE iteration = '001' AND role = 'test' AND side = 'after'"
    )
    page.goto(f"{ui.url}/assets/benchmark_evaluation?view=partitions&partition=001")
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    rows = page.get_by_role("row")
    reward = rows.filter(has=page.get_by_text("mean reward (test)", exact=True)).get_by_role("cell").nth(1)
    expect(reward).to_be_visible()
    assert float(reward.inner_text()) == pytest.approx(float(str(scores[0]["mean_reward"])), abs=1e-3)
    expect(page.get_by_role("cell", name="after", exact=True).first).to_be_visible()
    drift = ui.home.warehouse().rows("SELECT drift FROM current_drifts WHERE iteration = '001'")[0]["drift"]
    number = rows.filter(has=page.get_by_text("drift", exact=True)).get_by_role("cell").nth(1)
    assert float(number.inner_text()) == pytest.approx(drift, abs=1e-3)
    drawn = rows.filter(has=page.get_by_text("drift by iteration", exact=True))
    expect(drawn.get_by_text("Show Markdown")).to_be_visible()

    figure = rows.filter(has=page.get_by_text("success by iteration", exact=True))
    figure.get_by_text("Show Markdown").click()
    link = rows.filter(has=page.get_by_text("report", exact=True)).get_by_role("link").first
    expect(link).to_have_attribute("href", "/josh/report-001.html")
    image = page.locator("img[src^='data:image/png;base64,']")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300


def follows_the_link_to_a_tree(page: Page, ui: Ui) -> None:
    """The metadata of the rollouts links to the page of a tree, with every turn that the store has."""
    page.goto(f"{ui.url}/assets/beam_rollouts?view=partitions&partition=001")
    expect(page.get_by_text("siblings that differ")).to_be_visible()
    with page.expect_popup() as opened:
        page.locator("a[href^='/josh/trees/']").first.click()
    tree = opened.value
    expect(tree.get_by_role("heading", name="Search tree")).to_be_visible()
    rollout = tree.url.rsplit("/", 1)[1].removesuffix(".html")
    turns = ui.home.warehouse().rows("SELECT node_id FROM nodes WHERE rollout_id = ?", [rollout])
    drawn = tree.locator(".drawing .node").evaluate_all("boxes => boxes.map(box => box.dataset.node)")
    assert set(drawn) == {turn["node_id"] for turn in turns} != set()
    tree.close()
    missing = httpx2.get(f"{ui.url}/josh/trees/none.html")
    assert missing.status_code == 404 and "No rollout begins with 'none'" in missing.text


def follows_the_link_to_a_row(page: Page, ui: Ui) -> None:
    """The harvest's metadata links to the page of a training row; the report is beside it."""
    page.goto(f"{ui.url}/assets/preference_pairs?view=partitions&partition=001")
    entry = page.get_by_role("row").filter(has=page.get_by_text("rows to look at", exact=True))
    entry.get_by_text("Show Markdown").click()
    link = page.locator("a[href^='/josh/rows/']").first
    expect(link).to_be_visible()
    row = httpx2.get(f"{ui.url}{link.get_attribute('href')}")
    assert row.status_code == 200 and str(link.inner_text()) in row.text
    report = httpx2.get(f"{ui.url}/josh/report.html", timeout=60)
    assert report.status_code == 200 and 'aria-label="Search tree ' in report.text


def sees_how_the_model_is_exported(page: Page, ui: Ui) -> None:
    """The promotion's metadata holds the command line, to be copied."""
    promoted = ui.home.warehouse().rows("SELECT policy_digest FROM current_promotions WHERE iteration = '001'")
    page.goto(f"{ui.url}/assets/promotion?view=partitions&partition=001")
    command = f"josh export --model {promoted[0]['policy_digest']} --out model --home {ui.home.root}"
    expect(page.get_by_text(command, exact=True)).to_be_visible()


def sees_what_the_next_tick_would_do(page: Page, ui: Ui) -> None:
    """The schedule's page says whose settings it goes on with; its preview which iteration, and with which."""
    before = ui.ask(RUNS)
    page.goto(f"{ui.url}/locations/josh/schedules/weekly_retraining")
    expect(page.get_by_text("came to promotion, with what its launchpad said")).to_be_visible()
    expect(page.get_by_text("profile tiny, model")).to_be_visible()
    expect(page.get_by_text("At 03:00 AM UTC, only on Monday")).to_be_visible()
    page.get_by_role("button", name="Preview tick result").click()
    page.get_by_role("button", name="Continue").click()
    result = page.get_by_role("dialog").filter(has=page.get_by_text("Requested runs (1)"))
    result.get_by_role("button").first.click()
    for tag in ("partition: 002", "josh/profile: tiny", "josh/method: sft", "josh/source: as stored"):
        expect(page.get_by_text(tag, exact=True)).to_be_visible()
    assert ui.ask(RUNS) == before, "a preview launches nothing"


def finds_the_homes_values_in_the_launchpad_and_is_told_what_was_meant(page: Page, ui: Ui) -> None:
    """Picking an iteration fills in all settings of the last run; a misspelt one is told before it is launched."""
    page.goto(f"{ui.url}/locations/josh/jobs/iteration/playground")
    page.get_by_placeholder("Partition").fill("002")
    page.keyboard.press("Enter")
    editor = page.locator(".CodeMirror").first
    editor.get_by_text("sample_dialogues").wait_for()  # near the top: lines out of sight are not drawn
    offered = yaml.safe_load(str(editor.evaluate("editor => editor.CodeMirror.getValue()")))
    last = ui.home.settings().model_dump(mode="json", exclude={"profile"})
    assert offered == {"resources": {"josh": {"config": {"settings": last}}}}
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("resources: {josh: {config: {settings: {training: {learning_rat: 1.0e-4}}}}}")
    expect(page.get_by_text("There is no learning_rat (did you mean learning_rate?)")).to_be_visible()


def materializes_a_partition(page: Page, ui: Ui) -> None:
    """A click runs the step: its rows are written as a new generation, and become current."""
    page.goto(f"{ui.url}/assets/reward_labels?view=partitions&partition=001")
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_role("button", name="Launch 1 run").click()

    def written() -> bool | None:
        found = ui.home.warehouse().rows(
            "SELECT run_id FROM generations WHERE stage = 'labels' AND scope = '001' AND generation = 2 AND current"
        )
        return bool(found) or None

    assert ui.wait_until(written, "the second generation of labels")


def sees_that_newer_rows_lie_unused(page: Page, ui: Ui) -> None:
    """After a rerun of the harvest alone with another method, its page and the report say what no adapter saw."""
    config = {"resources": {"josh": {"config": {"settings": {"training": {"method": "kto"}}}}}}
    assert ui.launch("001", ["preference_pairs"], config) == "SUCCESS"
    told = "the adapter saw generation 1's rows: rerun lora_adapter to use them"
    page.goto(f"{ui.url}/assets/preference_pairs?view=partitions&partition=001")
    fact = page.get_by_role("row").filter(has=page.get_by_text("unused when this was written", exact=True))
    expect(fact).to_contain_text(told)
    page.goto(f"{ui.url}/josh/report.html")
    expect(page.locator(".note.unused")).to_contain_text(
        f"harvested again (method kto) after its adapter was trained; {told}"
    )
    expect(page.locator("#harvest")).to_contain_text("SFT golden conversations")


def sees_the_runs(page: Page, ui: Ui) -> None:
    """The jobs that the command line ran are in the list, with their iteration, and succeeded."""
    page.goto(f"{ui.url}/runs")
    for job, partition in (("iteration", "partition: 001"), ("baseline", ""), ("prepare", "")):
        named = page.locator("div").filter(has=page.get_by_role("link", name=job, exact=True))
        # The innermost element that holds the job and the box to tick: the run's line.
        run = named.filter(has=page.locator("input[type=checkbox]")).last
        expect(run).to_contain_text("Success")
        expect(run).to_contain_text(partition)


def runs_an_iteration_again(page: Page, ui: Ui) -> None:
    """A click on a run of the command line starts another; both are under their job and in the overview."""
    (first,) = [
        run["runId"]
        for run in ui.ask(RUNS)["runsOrError"]["results"]
        if (run["jobName"], run["assetSelection"]) == ("iteration", None)
    ]
    page.goto(f"{ui.url}/runs/{first}")
    page.get_by_role("button", name="Re-execute all (*)").click()
    page.wait_for_url(lambda url: "/runs/" in url and first not in url)
    second = page.url.rsplit("/", 1)[1].partition("?")[0]
    assert ui.wait_for(second) == "SUCCESS"
    written = "SELECT stage FROM generations WHERE scope = '001' AND current AND run_id = ?"
    assert len(ui.home.warehouse().rows(written, [second])) == len(CHAIN)

    page.goto(f"{ui.url}/locations/josh/jobs/iteration/runs")
    for run in (first, second):
        named = page.locator("div").filter(has=page.locator(f"a[href$='/runs/{run}']"))
        expect(named.filter(has=page.locator("input[type=checkbox]")).last).to_contain_text("Success")
    page.goto(f"{ui.url}/overview/activity/timeline")
    for job in ("prepare", "baseline", "iteration", "whole_goals"):
        expect(page.locator(f"a[href='/locations/josh/jobs/{job}']")).to_be_visible()
