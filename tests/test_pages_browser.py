"""Report, tree and training row in a real browser: narrow and wide, light, dark and on paper, by eye and by ear."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from playwright.sync_api import Browser, Page
from report_samples import drawn_tree, grown_tree, report_data

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.report.html import report_page
from josh_pipeline.report.viewer import load_row_page, tree_page
from josh_pipeline.store.home import Home

PAGES = ("report", "tree", "row")
WIDTHS = (1280, 390)
SCHEMES: Any = ("light", "dark")
READABLE = 4.5
"""WCAG 2's least contrast of a text (AA)."""
FAINT = """least => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const seen = colour => !["none", "transparent"].includes(colour) && (numbers(colour)[3] ?? 1) > 0;
  const ground = e => { const found = getComputedStyle(e).backgroundColor;
    return seen(found) || !e.parentElement ? found : ground(e.parentElement); };
  // Behind words in a drawing lies the last shape before them that is filled where they stand.
  const behind = text => {
    const box = text.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    let figure = text.ownerSVGElement;
    while (figure.ownerSVGElement) figure = figure.ownerSVGElement;
    const shapes = [...figure.querySelectorAll("rect, path, circle")].filter(s => {
      const at = s.getBoundingClientRect();
      return !s.closest("defs, clipPath") && at.x <= x && x <= at.right && at.y <= y && y <= at.bottom
        && s.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING && seen(getComputedStyle(s).fill);
    });
    return shapes.length ? getComputedStyle(shapes.at(-1)).fill : ground(figure.parentElement);
  };
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  for (const turn of document.querySelectorAll("article")) turn.hidden = false;
  const spoken = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility()
    && !["TITLE", "title"].includes(e.tagName);
  return [...document.body.querySelectorAll("*")].filter(spoken).map(e => {
    const drawn = e instanceof SVGElement, style = getComputedStyle(e);
    const [words, under] = [light(drawn ? style.fill : style.color), light(drawn ? behind(e) : ground(e))];
    return [(Math.max(words, under) + .05) / (Math.min(words, under) + .05), e.textContent.slice(0, 40)];
  }).filter(([contrast]) => contrast < least);
}"""
"""The texts of a page that have less contrast with what lies behind them."""


@pytest.fixture(scope="module")
def pages(finished: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each; the row is one of a finished home."""
    folder = tmp_path_factory.mktemp("pages")
    row = finished.warehouse().rows("SELECT row_id FROM current_preference_rows ORDER BY row_id LIMIT 1")[0]
    (folder / "report.html").write_text(report_page(report_data()), encoding="utf-8")
    (folder / "tree.html").write_text(tree_page(drawn_tree(grown_tree())), encoding="utf-8")
    audited = load_row_page(finished.warehouse(), audit_row(finished, row["row_id"]))
    (folder / "row.html").write_text(audited, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def opened(browser: Browser, file: Path, width: int, scheme: Any = "light") -> Page:
    context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_no_wider_than_the_screen_even_with_all_of_it_open(
    browser: Browser, pages: Path, name: str, width: int
) -> None:
    page = opened(browser, pages / f"{name}.html", width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", PAGES)
def test_every_word_can_be_read_in_light_and_in_dark(browser: Browser, pages: Path, name: str, scheme: str) -> None:
    page = opened(browser, pages / f"{name}.html", 1280, scheme)
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(244, 246, 249)", "dark": "rgb(15, 20, 26)"}[scheme]
    assert page.evaluate(FAINT, 22), "the measure sees what is not black on white"
    assert page.evaluate(FAINT, READABLE) == []
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_a_page_is_light_and_its_drawings_fit(browser: Browser, pages: Path, name: str) -> None:
    page = opened(browser, pages / f"{name}.html", 1280, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 720, "height": 1000})
    assert page.evaluate("getComputedStyle(document.documentElement).color") == "rgb(27, 36, 48)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    widths = page.evaluate("[...document.querySelectorAll('figure > svg, svg.tree')].map(s => s.clientWidth)")
    assert widths and max(widths) <= 720
    assert not page.locator(".viewer aside").is_visible()
    assert page.pdf().startswith(b"%PDF")
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_figures_tables_and_turns_have_names_for_those_who_hear_the_page(
    browser: Browser, pages: Path, name: str
) -> None:
    page = opened(browser, pages / f"{name}.html", 1280)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    figures = page.locator("figure > svg")
    assert figures.count() == page.locator("figure").get_by_role("img").count() == (8 if name == "report" else 0)
    for figure in figures.all():
        assert figure.aria_snapshot().startswith('- img "'), "its titles are its name"
    for table in page.locator("table").all():
        caption = table.locator("caption").inner_text()
        assert caption and table.aria_snapshot().startswith(f'- table "{caption}"')
        assert table.locator("th:not([scope])").count() == 0
        assert table.locator("tbody tr").count() == table.locator("tbody").get_by_role("rowheader").count()
    assert page.get_by_role("group", name="Search tree: ").count() == 1
    turns = page.locator(".tree .node")
    named = page.locator(".tree").get_by_role("button", name=re.compile(r"\w"))
    assert turns.count() == named.count() > 1
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_tree_opens_with_its_golden_path_in_view(browser: Browser, pages: Path, name: str, width: int) -> None:
    page = opened(browser, pages / f"{name}.html", width)
    view = page.locator(".drawing").bounding_box()
    assert view is not None
    golden = [box.bounding_box() for box in page.locator(".node.golden > rect").all()]
    assert len(golden) > 1
    for box in golden:
        assert box is not None and view["x"] <= box["x"] and box["x"] + box["width"] <= view["x"] + view["width"]
    assert golden[0] is not None and view["y"] <= golden[0]["y"]
    if name == "tree":
        shown = [box for box in golden if box and box["y"] + box["height"] <= 850]
        assert len(shown) >= 4, "they are on the first screen, without scrolling"
    else:
        assert page.evaluate("scrollY") == 0, "the page itself opens at its top"
    page.context.close()


def test_a_report_that_is_copied_elsewhere_shows_its_tree_with_every_word(
    browser: Browser, pages: Path, tmp_path: Path
) -> None:
    page = opened(browser, Path(shutil.copy(pages / "report.html", tmp_path)), 1280)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert not page.locator("#details article", has_text="book_hotel").first.is_visible()
    page.locator(".node.golden", has_text="book_hotel").first.click()
    told = page.locator("#details article:visible")
    assert told.count() == 1 and "book_hotel" in told.inner_text()
    assert asked == []
    page.context.close()


def test_the_keys_walk_a_report_s_tree_once_it_has_the_focus_and_scroll_the_page_before(
    browser: Browser, pages: Path
) -> None:
    page = opened(browser, pages / "report.html", 1280)
    page.keyboard.press("ArrowDown")
    assert page.locator(".node.chosen").count() == 0
    page.locator(".node").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".node.chosen").get_attribute("data-parent") == grown_tree().nodes[0].node_id
    page.context.close()
