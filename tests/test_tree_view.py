"""The drawn search tree: where nodes lie, what the page says, and that nothing leaves the page."""

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from report_samples import GOAL, drawn_tree, grown_tree
from rich.console import Console

from josh_pipeline.core.environment import Task
from josh_pipeline.core.messages import Message
from josh_pipeline.core.world import CallRecord
from josh_pipeline.report.tree import DrawnTree
from josh_pipeline.report.tree_svg import boxes, lay_out
from josh_pipeline.report.viewer import tree_page, tree_text
from josh_pipeline.search.tree import Tree

HOSTILE = "</title></script><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""


class Tags(HTMLParser):
    """Collects a page's tags, and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def hostile(call: CallRecord) -> CallRecord:
    return replace(call, arguments={"area": HOSTILE}, payload={"error": HOSTILE}, error=True)


def hostile_tree() -> DrawnTree:
    tree = grown_tree(rounds=4, collapses=(2,))
    nodes = tuple(
        replace(
            node,
            messages=(Message("assistant", HOSTILE), Message("user", HOSTILE)),
            calls=tuple(hostile(call) for call in node.calls),
        )
        for node in tree.nodes
    )
    return replace(drawn_tree(replace(tree, nodes=nodes)), policy=HOSTILE)


@pytest.mark.parametrize("seed", range(8))
def test_no_two_turns_of_a_round_overlap_and_the_tree_stays_about_as_wide_as_the_beam(seed: int) -> None:
    tree = grown_tree(seed=seed)
    layout = lay_out(tree)
    for round_ in range(layout.rounds + 1):
        places = [layout.x[node.node_id] for node in tree.nodes if node.round == round_]
        assert places == sorted(places)
        assert all(b - a >= 1 - 1e-9 for a, b in pairwise(places))
    assert set(layout.x) == {node.node_id for node in tree.nodes}
    assert min(layout.x.values()) >= -1e-9
    assert max(layout.x.values()) <= layout.columns - 1 + 1e-9
    assert layout.columns <= 11


def test_a_tree_that_failed_at_once_can_be_drawn() -> None:
    tree = grown_tree(rounds=0)
    root = replace(tree.nodes[0], messages=(), failure="user", failure_message="no opening", end="failed")
    drawn = drawn_tree(
        replace(tree, nodes=(root,), failure="user", failure_message="no opening", earned=(), reward=0.0)
    )
    assert "failed (user): no opening" in tree_page(drawn)
    assert lay_out(drawn.tree).columns == 1


def shown(tree: Tree) -> str:
    return tree_page(drawn_tree(tree))


def test_the_page_has_every_turn_where_it_earned_and_why_it_ended() -> None:
    tree = grown_tree()
    page = shown(tree)
    for node in tree.nodes:
        assert f'id="box-{node.node_id}"' in page
        assert f'id="turn-{node.node_id}"' in page
    assert page.count('class="earned"') == sum(len(node.earned) for node in tree.nodes)
    assert page.count('class="edge golden"') == sum(n.golden for n in tree.nodes) - 1
    assert "This branch pruned: another branch earned first." in page
    assert "search_hotel(area=north, pricerange=cheap)" in page
    for round_ in sorted({n.round for n in tree.nodes if n.collapsed}):
        assert f"earned in round {round_}" in page
    assert "golden conversation" in page
    assert "+3 rows" in page and "−1 rows" in page


def test_milestones_that_are_no_calls_are_drawn_by_their_numbers() -> None:
    task = Task("g", "s", "", "train", "task", "task s", ("Wish.",), (), None)
    drawn = replace(drawn_tree(), goal=task)
    assert [text for text, _ in drawn.milestones] == ["milestone 1", "milestone 2", "milestone 3"]
    page = tree_page(drawn)
    assert "milestone 2" in page and "task s" in page and "Wish." in page
    screen = io.StringIO()
    Console(width=120, file=screen).print(tree_text(drawn))
    assert "(2) milestone 2: earned in round 8" in screen.getvalue()


def test_the_pages_ids_are_unique_and_the_drawing_is_well_formed() -> None:
    tags = Tags(shown(grown_tree()))
    assert len(tags.ids) == len(set(tags.ids))
    assert ElementTree.fromstring(boxes(hostile_tree())).tag.endswith("svg")


def test_the_page_loads_nothing_and_holds_no_address() -> None:
    page = shown(grown_tree())
    assert Tags(page).loads == []
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)


def test_hostile_words_in_a_conversation_stay_words() -> None:
    page = tree_page(hostile_tree())
    tags = Tags(page)
    assert tags.names.count("script") == 1
    assert "img" not in tags.names
    assert tags.handlers == []
    assert "alert(&#39;x&#39;)" in page or "alert(&#x27;x&#x27;)" in page


def test_the_terminal_shows_the_golden_path_ends_and_rewards_within_its_width() -> None:
    screen = io.StringIO()
    Console(width=120, file=screen).print(tree_text(drawn_tree()))
    text = screen.getvalue()
    assert "Search tree 5be0c7a1f4d2938e" in text
    assert "(2) book_hotel(people=2, stay=3, day=friday, name=lovell lodge): earned in round 8" in text
    assert "after round 4" in text and "after round 8" in text
    assert "[pruned]" in text and "[solved]" in text
    assert text.count("earned in round") == len(GOAL.calls)
    assert max(len(line) for line in text.splitlines()) <= 120
