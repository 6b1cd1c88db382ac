"""The report: what it says, what its figures show, that it opens offline, and that words stay words."""

import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_samples import policy_change, policy_drift, policy_score, report_data
from rich.console import Console

from josh_pipeline.cli.show import score_record, score_table
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.report.data import Cost, HarvestYield, ReportData
from josh_pipeline.report.figures import (
    cost,
    drift_by_policy,
    harvest_yield,
    paired_differences,
    png,
    success_by_group,
    success_by_iteration,
    svg,
    won_and_lost,
)
from josh_pipeline.report.html import cards, headline, overall_change, parting, policy_tables, report_page
from josh_pipeline.report.pages import bubbles
from josh_pipeline.report.words import goal_kind
from josh_pipeline.search.tree import Usage

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""


class Page(HTMLParser):
    """A page's words, tags and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "data", "action", "poster", "srcset") or (name == "href" and tag == "link"):
                self.loads.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return report_page(data)


def test_the_report_says_what_was_found_with_its_interval(html: str) -> None:
    text = Page(html).text
    assert "The agent got better: success went from 25 % to 69 %" in text
    assert "a paired difference of +44.0 points in success, 95 % interval [+35.0, +53.0]" in text
    assert "which excludes zero; 70 goals won, 4 lost" in text


def test_the_report_says_that_sloppiness_is_injected_with_its_shares(html: str, data: ReportData) -> None:
    text = Page(html).text
    assert "The cold start's sloppiness is injected." in text
    assert "96 scripted conversations" in text
    assert "50 % of the bookings and orders are claimed and not made" in text
    assert "30 % of the calls with two or more arguments leave one out" in text
    assert "15 % of the results" in text
    assert "injected" not in Page(report_page(replace(data, injected=None))).text


def test_the_note_on_a_kind_of_goals_stands_where_it_is_scored(html: str, data: ReportData) -> None:
    assert "Scores on parts are not ToolWOZ scores." in Page(html).text
    whole = replace(data, scores=tuple(s for s in data.scores if s.goals.name == "whole"))
    assert "not ToolWOZ scores" not in Page(report_page(whole)).text


def test_every_score_stands_in_the_table_and_the_user_ceiling_beside_it(html: str, data: ReportData) -> None:
    text = Page(html).text
    for score in (one.score for one in data.scores):
        assert f"{score.reward:.3f}" in text
        assert f"{100 * score.success:.1f} %" in text
        assert f"[{100 * score.low:.1f}, {100 * score.high:.1f}]" in text
    assert "user ceiling a perfect agent with this user 150 – 97.3 %" in text


def test_the_report_shows_drift_with_its_limit_and_says_where_there_is_none(html: str, data: ReportData) -> None:
    text = Page(html).text
    assert "KL(policy ‖ foundation)" in text and "651 tokens" in text and "40 general requests" in text
    for one in data.drifts:
        assert one.drift is not None
        assert f"{one.drift.mean:.3f}" in text
        assert f"[{one.drift.low:.3f}, {one.drift.high:.3f}]" in text
    assert "limit for a candidate: 1.5" in text
    nowhere = replace(data.drifts[-1], drift=None, reason="The weights are elsewhere.")
    text = Page(report_page(replace(data, drifts=(nowhere,)))).text
    assert "JOSH round 2 : not measured. The weights are elsewhere." in text


def test_a_model_that_diverged_is_refused_in_the_report_as_the_gate_refuses_it(data: ReportData) -> None:
    diverged = policy_drift("JOSH round 2", math.nan)
    assert diverged.too_far
    found = replace(data, drifts=(*data.drifts[:2], diverged))
    assert ("diverged", "nats a token: drift of JOSH round 2", "bad") in cards(found, None)
    html = report_page(found)
    assert '<b class="bad">diverged</b>' in html and not re.search(r"\bnan\b", Page(html).text)
    assert "diverged" in texts(svg(drift_by_policy(found.drifts)))
    assert not data.drifts[-1].too_far and policy_drift("JOSH round 2", 1.6).too_far


def test_conversations_are_told_together_until_they_part(html: str, data: ReportData) -> None:
    example = data.examples[0]
    before, after = bubbles(example.before.messages), bubbles(example.after.messages)
    assert parting(before, after) == 5
    assert parting(before, before) == len(before)
    assert parting(before, ()) == 0
    assert Page(html).text.count(before[3].text) == len(data.examples), "the shared part stands once"
    assert Page(html).text.count("Here they part.") == len(data.examples)


def test_words_that_were_spoken_beside_a_call_are_drawn_apart_from_it() -> None:
    both = Message("assistant", "<raw>", (ToolCall("find", {"id": 1}),), spoken="One moment.")
    drawn = bubbles((Message("user", "Hi"), both, Message("tool", "found")))
    assert [(one.kind, one.text) for one in drawn] == [
        ("user", "Hi"),
        ("call", 'find {"id":1}'),
        ("assistant", "One moment."),
        ("tool", "found"),
    ]


def test_kinds_of_goals_are_called_what_their_environment_calls_them() -> None:
    whole, part = goal_kind("whole", ToolWoz), goal_kind("part", ToolWoz)
    assert (whole.plural, whole.short, whole.note, whole.score) == ("whole goals", "whole", "", "ToolWOZ score")
    assert (part.plural, part.short) == ("parts", "parts") and "not ToolWOZ scores" in part.note
    assert goal_kind("task", None).plural == "task", "nobody knows better where settings cannot be read"


def of_whole_goals() -> ReportData:
    """A line that plays whole goals, and one benchmark of it on parts."""
    whole = goal_kind("whole", ToolWoz)
    return replace(
        report_data(),
        scores=(
            policy_score("cold start", 0.4, kind="whole"),
            policy_score("JOSH round 1", 0.55, kind="whole", promoted=True),
            policy_score("JOSH round 1", 0.8, promoted=True),
        ),
        changes=(replace(policy_change("cold start", "JOSH round 1", (0.08, 0.15, 0.22)), goals=whole),),
    )


def test_where_whole_goals_are_played_their_published_score_is_the_headline_and_parts_stand_aside() -> None:
    data = of_whole_goals()
    html = report_page(data)
    text = Page(html).text
    assert "The agent got better: the ToolWOZ score went from 25 % to 40 %" in text
    assert "Every policy, and the user ceiling. The ToolWOZ score is the success rate on whole goals." in text
    assert "ToolWOZ score, JOSH round 1 (n = 150)" in text
    assert "ToolWOZ score by round: success on whole goals, role test" in texts(
        svg(success_by_iteration(data.main, None))
    )
    aside = re.findall(r'<tr class="role-test aside">.*?<td>(.*?)</td>', html)
    assert aside == ["parts"]
    screen = io.StringIO()
    Console(file=screen, width=80, color_system="standard", force_terminal=True).print(score_table(data.scores))
    dim = [line for line in screen.getvalue().splitlines() if "\x1b[2m" in line and "80.0 %" in line]
    assert len(dim) == 1 and "The ToolWOZ score is the success rate on whole goals." in screen.getvalue()


def test_where_parts_are_played_the_headline_claims_no_published_score(html: str) -> None:
    assert "ToolWOZ score went" not in Page(html).text and "aside" not in re.findall(r'<tr class="(.*?)"', html)


def test_the_report_says_where_the_search_of_each_round_got_stuck(html: str) -> None:
    text = Page(html).text
    assert "JOSH round 1 67.0 % 61 user left, 4 out of rounds 19 booking, 12 search" in text
    assert "JOSH round 2 48.0 % – –" in text


def test_cost_is_summed_and_money_is_told_only_where_there_are_prices(html: str, data: ReportData) -> None:
    text = Page(html).text
    assert "4,490 requests, 1,820,000 prompt tokens of which 1,502,000 were cached" in text
    assert "No prices are set, so nothing is said about money." in text
    paid = replace(data, costs=(*data.costs, Cost(2, "JOSH round 2", "rollouts", 60.0, Usage(10, 0, 100, cost=1.25))))
    assert "In money, by the prices in the settings: 1.25." in Page(report_page(paid)).text


def test_searches_bookings_and_faults_are_told_for_every_policy(html: str) -> None:
    text = Page(html).text
    assert "booking n = 40 15.0 % 45.0 % 59.0 %" in text
    assert "unknown tool 2 2 2" in text
    assert "turns that ended without an answer 0.4 % 0.4 % 0.4 %" in text


def test_the_report_shows_examples_settings_versions_and_the_tree(html: str, data: ReportData) -> None:
    page = Page(html)
    assert "Your booking is made!" in page.text
    assert "Booked, the reference is QX81MP2T." in page.text
    assert "0123abcd+" in page.text
    assert "corpus.sample_dialogues 700" in page.text
    assert "lora.alpha 32" in page.text
    assert "torch 2.13.0" in page.text
    assert len(re.findall('class="node golden[ "]', html)) == sum(n.golden for n in data.tree.tree.nodes)  # type: ignore[union-attr]


def test_the_report_needs_no_other_file_and_runs_the_viewer_of_its_tree_alone(html: str, data: ReportData) -> None:
    page = Page(html)
    assert page.loads == []
    assert page.tags.count("script") == 1
    assert "script" not in Page(report_page(replace(data, tree=None))).tags
    assert all(link.startswith("#") for link in page.links)
    outside = re.findall(r"""(?:url\(|@import|(?:src|href)\s*=\s*["'])\s*(?!#)\S*""", html)
    assert outside == []
    addresses = set(re.findall(r"https?://[^\"'<> ]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_hostile_words_in_conversations_and_names_stay_words(data: ReportData) -> None:
    talk = (Message("user", HOSTILE), Message("assistant", HOSTILE, (ToolCall(HOSTILE, {"a": HOSTILE}),)))
    example = data.examples[0]
    hostile = replace(
        data,
        model=HOSTILE,
        corpus=replace(data.corpus, name=HOSTILE, licence=HOSTILE),
        scores=tuple(replace(s, name=HOSTILE) for s in data.scores),
        examples=(replace(example, after=replace(example.after, messages=talk)),),
        settings={"environment": {"source": HOSTILE}},
    )
    page = Page(report_page(hostile))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert page.handlers == []
    assert page.text.count("alert('x')") >= 6


def test_a_report_of_the_cold_start_alone_says_that_nothing_was_trained(data: ReportData) -> None:
    start = replace(
        data, scores=data.scores[:1], changes=(), harvests=(), curves=(), costs=(), examples=(),
        tree=None, ceiling=None, drifts=(), decisions=(),
    )  # fmt: skip
    page = Page(report_page(start))
    assert "Success 25 % before any round" in page.text
    assert "Nothing has been trained from search trees yet." in page.text
    assert "No training goal has been searched yet." in page.text
    assert "#examples" not in page.links and "#drift" not in page.links
    nothing = replace(start, scores=())
    assert "No policy has been evaluated yet" in Page(report_page(nothing)).text


def test_the_headline_claims_only_what_the_interval_shows(data: ReportData) -> None:
    for low, high, claim in ((0.1, 0.5, "better"), (-0.5, -0.1, "worse"), (-0.1, 0.2, "No clear change")):
        change = policy_change("cold start", "JOSH round 2", (low, (low + high) / 2, high))
        found = replace(data, changes=(change,))
        assert claim in headline(found, overall_change(found))


def texts(drawing: str) -> str:
    root = ElementTree.fromstring(drawing)
    return " | ".join("".join(element.itertext()).strip() for element in root.iter() if "text" in element.tag)


def test_figures_hold_their_numbers_as_text(data: ReportData) -> None:
    success = texts(svg(success_by_iteration(data.main, data.ceiling)))
    assert "25 %" in success and "55 %" in success and "69 %" in success
    assert "user ceiling 97 %" in success
    assert "n = 150" in success
    refused = replace(data.main[1], promoted=False)
    assert "(not promoted)" in texts(svg(success_by_iteration([data.main[0], refused], None)))
    domains = texts(svg(success_by_group(data.main, "domain")))
    assert "hotel" in domains and "n = 80" in domains and "JOSH round 2" in domains
    outcome = texts(svg(won_and_lost(data.changes[:1])))
    assert "48" in outcome and "7" in outcome and "31 solved by both, 64 by neither" in outcome
    assert "+0.300" in texts(svg(paired_differences(data.changes)))
    assert "3 min 50 s" in texts(svg(cost(data.costs)))
    assert "not recorded" in texts(svg(cost(data.costs)))


def test_intervals_are_drawn_to_scale(data: ReportData) -> None:
    figure = success_by_iteration(data.main, data.ceiling)
    axes = figure.axes[0]
    bars = [
        collection.get_segments()[0][:, 1] for collection in axes.collections if hasattr(collection, "get_segments")
    ]
    assert [(round(low, 4), round(high, 4)) for low, high in bars] == [
        (round(s.score.low, 4), round(s.score.high, 4)) for s in data.main
    ]


def test_harvest_bars_add_up_to_the_trees() -> None:
    figure = harvest_yield([HarvestYield(1, "JOSH round 1", 48, 20, 15, 12, 1, {}, {1: (5, 3)})])
    trees, rows = figure.axes
    assert sum(bar.get_width() for bar in trees.patches) == 48
    assert sorted(bar.get_height() for bar in rows.patches) == [-3, 5]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_figures_can_be_drawn_of_nothing_and_of_many(count: int, data: ReportData) -> None:
    scores = [policy_score(f"JOSH round {i}", 0.1 * i) for i in range(count)]
    changes = [policy_change("a", f"b{i}", (-0.1, 0.0, 0.1)) for i in range(count)]
    harvests = [HarvestYield(i, f"JOSH round {i}", 0, 0, 0, 0, 0, {}, {}) for i in range(count)]
    costs = [Cost(i, f"JOSH round {i}", "rollouts", None, Usage()) for i in range(count)]
    figures = (
        success_by_iteration(scores, None), success_by_group(scores, "domain"), paired_differences(changes),
        won_and_lost(changes), harvest_yield(harvests), cost(costs),
        drift_by_policy([policy_drift(f"JOSH round {i}", 0.1 * i) for i in range(count)]),
    )  # fmt: skip
    for figure in figures:
        assert ElementTree.fromstring(svg(figure)).tag.endswith("svg")


def test_equal_data_give_equal_drawings_and_pictures_are_png(data: ReportData) -> None:
    assert svg(success_by_group(data.main, "domain")) == svg(success_by_group(data.main, "domain"))
    assert png(success_by_group(data.main, "domain")).startswith(b"\x89PNG\r\n")


def test_the_terminal_table_has_the_columns_and_a_word_about_parts(data: ReportData) -> None:
    screen = io.StringIO()
    Console(file=screen, width=80).print(score_table(data.scores))
    text = screen.getvalue()
    for heading in ("policy", "goals", "n", "mean", "reward", "95 % interval", "trees", "full", "rows", "moted"):
        assert heading in text
    assert "…" not in text, "80 columns hold the whole table"
    assert "54.7 % [46.7, 62.4]" in text
    assert "not ToolWOZ scores" in text
    whole = [s for s in data.scores if s.goals.name == "whole"]
    screen = io.StringIO()
    Console(file=screen, width=80).print(score_table(whole))
    assert "not ToolWOZ scores" not in screen.getvalue()


def test_score_records_are_plain_json(data: ReportData) -> None:
    record = json.loads(json.dumps(score_record(data.scores[0])))
    assert (record["iteration"], record["promoted"], record["goals"]) == (0, None, "parts")
    assert record["low"] < record["success"] < record["high"]


def test_the_report_says_what_each_policy_lost_and_why_the_most_frequent_first() -> None:
    title, _, rows = next(table for table in policy_tables(report_data()) if table[0].startswith("What was lost"))
    assert title == "What was lost, and why"
    assert rows == [
        ("search_hotel", "left an argument out", ["70", "60", "0"]),
        ("search_hotel", "claimed, not made", ["42", "7", "0"]),
    ]
    title, _, rows = next(table for table in policy_tables(report_data()) if table[0].startswith("How these"))
    assert rows == [("the user left", "", ["112", "67", "0"])]
    unread = replace(report_data(), lost=())
    assert not any(table[0].startswith("What was lost") for table in policy_tables(unread))
