"""The page of a tree as large as the paper's, in a real browser: zoom, folding, the golden path, the keys."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import chromium
from playwright.sync_api import Page
from report_samples import drawn_tree, grown_tree

from josh_pipeline.report.viewer import tree_page
from josh_pipeline.search.tree import Tree

TREE = grown_tree()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """The page, whose scripts may not fail and which may load nothing."""
    file = tmp_path / "tree.html"
    file.write_text(tree_page(drawn_tree(TREE)))
    faults: list[str] = []
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.on("pageerror", lambda fault: faults.append(str(fault)))
        shown.on("request", lambda request: faults.append(request.url) if request.url != file.as_uri() else 0)
        shown.goto(file.as_uri())
        yield shown
    assert faults == []


def test_what_a_store_calls_a_turn_is_no_markup_and_no_script_but_the_pages_own_runs(tmp_path: Path) -> None:
    hostile = '"><script>document.title = "ran"</script><g x="'
    root = TREE.nodes[0].node_id
    nodes = tuple(
        replace(
            node,
            node_id=node.node_id.replace(root, hostile),
            parent_id=node.parent_id and node.parent_id.replace(root, hostile),
        )
        for node in TREE.nodes
    )
    text = tree_page(drawn_tree(replace(TREE, nodes=nodes)))
    assert "<script>document.title" not in text
    (file := tmp_path / "tree.html").write_text(text)
    # And were there a hole, what came through it would not run.
    injected = f"{hostile}<img src=x onerror='document.title = \"ran\"'><p id=end></p></body>"
    (holed := tmp_path / "holed.html").write_text(text.replace("</body>", injected))
    with chromium() as browser:
        shown = browser.new_page()
        for path in (file, holed):
            shown.goto(path.as_uri())
            shown.locator("#scale").get_by_text("%").wait_for()
            assert shown.title().startswith("Search tree")


def drawn(page: Page, kind: str = "") -> set[str]:
    """The turns that are visible."""
    boxes = page.locator(f".drawing .node{kind}:visible")
    return set(boxes.evaluate_all("boxes => boxes.map(box => box.dataset.node)"))


def below(tree: Tree, top: str) -> set[str]:
    found = {top}
    for node in tree.nodes:
        if node.parent_id in found:
            found.add(node.node_id)
    return found - {top}


def test_a_tree_of_8_branches_and_15_rounds_can_be_seen_whole_and_read(page: Page) -> None:
    every = {node.node_id for node in TREE.nodes}
    assert drawn(page) == every
    letters = page.locator(".drawing .node text").first
    assert letters.bounding_box()["height"] >= 9, "words can be read at the size it opens in"

    page.click("#fit")
    view, tree = page.locator(".drawing").bounding_box(), page.locator(".drawing > svg").bounding_box()
    assert view["x"] <= tree["x"] and tree["x"] + tree["width"] <= view["x"] + view["width"]
    assert view["y"] <= tree["y"] and tree["y"] + tree["height"] <= view["y"] + view["height"]
    small = int(page.inner_text("#scale").split()[0])
    page.keyboard.press("+")
    assert int(page.inner_text("#scale").split()[0]) > small


def test_branches_fold_and_the_golden_path_can_be_seen_alone(page: Page) -> None:
    every = drawn(page)
    top = TREE.nodes[1].node_id
    hidden = below(TREE, top)
    page.locator(f"#box-{top}").dblclick()
    assert drawn(page) == every - hidden
    assert page.locator(".drawing .more").text_content() == f"+ {len(hidden)} turns folded"
    page.click("#golden")
    assert drawn(page) <= {node.node_id for node in TREE.nodes if node.golden}
    page.click("#unfold")
    assert drawn(page) == every


def test_a_click_shows_what_a_turn_said_why_it_ended_and_what_was_taken(page: Page) -> None:
    pruned = next(node for node in TREE.nodes if node.end == "pruned")
    page.locator(f"#box-{pruned.node_id}").click()
    (told,) = page.locator("#details article:visible").all()
    assert "This branch pruned: another branch earned first." in told.inner_text()
    golden = next(node for node in TREE.nodes if node.golden and node.earned)
    page.locator(f"#box-{golden.node_id}").click()
    (told,) = page.locator("#details article:visible").all()
    assert "Earned" in told.inner_text() and "desirable" in told.inner_text()
    page.keyboard.press("ArrowUp")
    (told,) = page.locator("#details article:visible").all()
    assert told.get_attribute("id") == f"turn-{golden.parent_id}"
