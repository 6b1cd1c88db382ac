"""The report in a real browser, off the net, on a desktop and on a phone."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from browser import chromium
from playwright.sync_api import Browser, Page
from report_samples import policy_change, policy_drift, policy_score, report_data

from josh_pipeline.report.data import Decision, ReportData
from josh_pipeline.report.html import report_page
from josh_pipeline.report.words import ONE_RUN

SECTIONS = ("scores", "differences", "where", "drift", "harvest", "tree", "training", "examples", "settings")
FIGURES = 8
WIDTHS = (1280, 390)


def of_rounds(count: int) -> ReportData:
    """The sample report with another number of rounds, the last but one refused."""
    data = report_data()
    rounds = range(1, count + 1)
    names = ["cold start", *(f"JOSH round {i}" for i in rounds)]
    pairs = list(pairwise(names))
    return replace(
        data,
        scores=(
            policy_score("cold start", 0.25),
            *(policy_score(f"JOSH round {i}", 0.3 + 0.05 * i, promoted=i != count - 1) for i in rounds),
        ),
        changes=tuple(policy_change(*pair, (-0.02, 0.05, 0.12)) for pair in pairs),
        decisions=tuple(Decision(i, names[i], i != count - 1, "Because.") for i in rounds),
        drifts=tuple(policy_drift(name, 0.6 + 0.04 * i) for i, name in enumerate(names)),
        harvests=tuple(replace(data.harvests[0], iteration=i) for i in rounds),
        curves=tuple(replace(data.curves[0], name=name) for name in names),
        costs=tuple(replace(cost, iteration=i) for i in rounds for cost in data.costs[2:]),
        examples=tuple(
            replace(one, iteration=i, after=replace(one.after, policy=f"JOSH round {i}"))
            for i in reversed(rounds)
            for one in data.examples
        ),
    )


@pytest.fixture(scope="module", params=[1, 5], ids=["one round", "five rounds"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(of_rounds(request.param)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """The report, loaded without a network; anything that it asked for would be in the list."""
    context = browser.new_context(viewport={"width": request.param, "height": 850}, offline=True)
    shown = context.new_page()
    asked: list[str] = []
    shown.on("request", lambda one: asked.append(one.url))
    shown.on("pageerror", lambda fault: asked.append(str(fault)))
    shown.goto(report.as_uri())
    yield shown
    assert asked == [report.as_uri()]
    context.close()


def test_every_section_is_seen_and_the_page_is_as_wide_as_the_screen(page: Page) -> None:
    for name in SECTIONS:
        section = page.locator(f"section#{name}")
        assert section.is_visible()
        assert page.locator(f"nav a[href='#{name}']").count() == 1
    width = page.evaluate("document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("figure svg").count() == FIGURES
    for figure in page.locator("figure svg").all():
        box = figure.bounding_box()
        assert box is not None and box["width"] >= 340 and box["height"] >= 120


def test_words_in_figures_can_be_read_and_none_lie_on_each_other(page: Page) -> None:
    heights = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(heights) >= 9
    ticks = page.evaluate(
        "[...document.querySelectorAll('#drift figure svg text, #scores figure svg text')]"
        ".map(t => [t.textContent, t.getBoundingClientRect()])"
        ".map(([words, box]) => [words, box.x, box.right, box.y, box.bottom])"
    )
    rounds = [tick for tick in ticks if tick[0].startswith("JOSH round")]
    assert rounds
    for one, other in pairwise(rounds):
        assert one[2] <= other[1] or one[4] <= other[3] or other[4] <= one[3], (one, other)


def test_the_last_round_s_examples_are_open_and_the_earlier_ones_can_be_opened(page: Page) -> None:
    rounds = page.locator("#examples details")
    assert rounds.first.locator(".pair").first.is_visible()
    last = rounds.last
    last.locator("summary").click()
    assert last.locator(".pair").first.is_visible() is (rounds.count() > 1)


UNUSED = "Iteration 001's rows were harvested again (method kto) after its adapter was trained: rerun lora_adapter."


@pytest.mark.parametrize("width", WIDTHS)
def test_newer_rows_that_lie_unused_are_told_above_the_scores(browser: Browser, width: int) -> None:
    alike = "7 of 36 rows come from goals that want exactly the calls of an evaluated goal."
    data = report_data()
    told = replace(data, unused=(UNUSED,), harvests=tuple(replace(one, alike=alike) for one in data.harvests))
    page = browser.new_page(viewport={"width": width, "height": 850})
    page.set_content(report_page(told))
    banner, scores = page.locator(".note.unused"), page.locator("section#scores")
    assert banner.is_visible() and UNUSED in banner.inner_text()
    above, below = banner.bounding_box(), scores.bounding_box()
    assert above is not None and below is not None and above["y"] + above["height"] <= below["y"]
    assert scores.get_by_text(alike).count() == len(data.harvests)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_content(report_page(data))
    assert page.locator(".note.unused").count() == 0
    page.close()


def test_where_the_search_got_stuck_is_read_in_the_harvest(page: Page) -> None:
    table = page.locator("#harvest table", has_text="Where the search of each round got stuck")
    row = table.locator("tbody tr").first
    assert row.is_visible() and row.inner_text().split("\t")[1:] == [
        "67.0 %", "61 user left, 4 out of rounds", "19 booking, 12 search"
    ]  # fmt: skip


def test_beside_the_scores_stands_how_far_one_run_tells(page: Page) -> None:
    note = page.locator("#scores p").filter(has_text=ONE_RUN)
    assert note.is_visible() and note.evaluate("one => one.scrollWidth <= one.clientWidth")
