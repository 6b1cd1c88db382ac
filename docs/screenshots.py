"""Takes the pictures of README.md from a finished home, in headless Chromium.

    python docs/screenshots.py --home .josh [--iteration 001]

It serves the home with ``josh ui``, and writes ui-graph.png, ui-evaluation.png, ui-launchpad.png, tree.png and
report.png beside itself.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from playwright.sync_api import Page, sync_playwright

from josh_pipeline.report.html import write_report
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home

HERE = Path(__file__).parent
START_SECONDS = 90.0
JOSH = [sys.executable, "-m", "assets.cli"]
RICHEST = (
    "SELECT rollout_id FROM current_trees WHERE iteration = ? AND reward = 1 "
    "ORDER BY abs(rounds - 5), rollout_id LIMIT 1"
)
"""A solved tree of about five rounds: there is something to see, and it fits on a screen."""


@contextmanager
def served(home: Home) -> Iterator[str]:
    """Serve a home and give the URL of its UI."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*JOSH, "ui", "--port", str(port), "--home", str(home.root)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(url):
                if time.monotonic() > deadline:
                    raise SystemExit("josh ui did not come up.")
                time.sleep(1.0)
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Whether the UI answers."""
    try:
        return httpx2.get(url).is_success
    except httpx2.TransportError:
        return False


def take(page: Page, url: str, wait_for: str, name: str) -> None:
    """Open a page, wait for something on it, and keep the picture."""
    page.goto(url)
    page.locator(wait_for).first.wait_for()
    page.wait_for_timeout(3_000)  # Figures fade in.
    page.screenshot(path=HERE / name)
    print(HERE / name)


OTHER_SETTINGS = """resources:
  josh:
    config:
      settings:
        training: {learning_rate: 1.0e-4}
        search: {beam_size: 4}
"""


def take_launchpad(page: Page, url: str, iteration: str) -> None:
    """Keep a picture of the launchpad with two settings that are changed, as README.md has them."""
    page.goto(f"{url}/locations/josh/jobs/iteration/playground")
    page.get_by_placeholder("Partition").fill(iteration)
    page.keyboard.press("Enter")
    editor = page.locator(".CodeMirror").first
    editor.get_by_text("retraining_cron").wait_for()  # All values of the home are offered first.
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(OTHER_SETTINGS)
    page.get_by_text("No errors").wait_for()
    page.wait_for_timeout(1_000)
    page.screenshot(path=HERE / "ui-launchpad.png")


def main() -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True)
    parser.add_argument("--iteration", default="001")
    options = parser.parse_args()
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("No Chromium on the PATH: apt-get install chromium.")
    home = open_home(options.home)
    rollout = home.warehouse().rows(RICHEST, [options.iteration])[0]["rollout_id"]
    # Before the browser: Playwright leaves an event loop running, in which no other can start.
    report = write_report(home.warehouse(), home.reports)
    tree = home.reports / "tree.html"
    subprocess.run([*JOSH, "tree", rollout, "--html", str(tree), "--home", str(home.root)], check=True)
    with served(home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        graph = f"{url}/locations/josh/asset-groups/iteration/lineage"
        take(page, graph, "svg foreignObject", "ui-graph.png")
        evaluation = f"{url}/assets/benchmark_evaluation?view=partitions&partition={options.iteration}"
        page.goto(evaluation)
        row = page.get_by_role("row").filter(has=page.get_by_text("success by iteration", exact=True))
        row.get_by_text("Show Markdown").click()
        page.locator("img[src^='data:image/png;base64,']").wait_for()
        page.wait_for_timeout(2_000)
        page.screenshot(path=HERE / "ui-evaluation.png")
        take_launchpad(page, url, options.iteration)
        page.goto(tree.as_uri())
        page.get_by_role("button", name="Whole tree").click()
        page.locator("svg").first.wait_for()
        page.screenshot(path=HERE / "tree.png")
        take(page, report.as_uri(), "svg, img", "report.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
