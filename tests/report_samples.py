"""Made-up trees and results that the tests of the report draw."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.world import CallRecord
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import DomainTask, Goal, GroundTruthCall
from josh_pipeline.evaluation.drift import Drift
from josh_pipeline.evaluation.failures import Failure
from josh_pipeline.evaluation.statistics import wilson
from josh_pipeline.evaluation.summary import Breakdown, Score
from josh_pipeline.report.data import (
    CorpusFacts,
    Cost,
    Decision,
    Example,
    HarvestYield,
    InjectedFaults,
    LostGoals,
    Played,
    PolicyChange,
    PolicyDrift,
    PolicyScore,
    ReportData,
    TrainingCurve,
)
from josh_pipeline.report.tree import DrawnTree, NodeRows
from josh_pipeline.report.words import goal_kind
from josh_pipeline.search.shape import Shape
from josh_pipeline.search.tree import Node, Tree, Usage
from josh_pipeline.settings import load_settings

GOAL = Goal(
    goal_id="0c4f1e9ab2d37756",
    source_id="MUL0784",
    split="test",
    role="test",
    kind="whole",
    title="whole goal of MUL0784",
    part=None,
    message=(
        "You are looking for a place to stay. The hotel should be in the north and should be cheap.",
        "Once you find it, book it for 2 people and 3 nights starting from friday.",
        "You are also looking for a restaurant that serves thai food in the centre.",
    ),
    tasks=(
        DomainTask("hotel", {"area": "north", "pricerange": "cheap"}, {}, {"people": "2"}, {}, ()),
        DomainTask("restaurant", {"food": "thai", "area": "centre"}, {}, {}, {}, ("phone",)),
    ),
    calls=(
        GroundTruthCall("search_hotel", {"area": "north", "pricerange": "cheap"}, {"name": "lovell lodge"}),
        GroundTruthCall(
            "book_hotel",
            {"people": "2", "stay": "3", "day": "friday", "name": "lovell lodge"},
            {"name": "lovell lodge", "reference": "QX81MP2T"},
        ),
        GroundTruthCall("search_restaurant", {"food": "thai", "area": "centre"}, None),
    ),
    excluded=None,
)

SETTINGS = load_settings("quickstart", {"environment": {"corpus": {"sample_dialogues": 700}}})
SPEECHES = (
    "I found Lovell Lodge, a cheap guesthouse in the north. Shall I book it for you?",
    "There are several hotels. Which price range would you like?",
    "Sorry, nothing matches your request. Would you like another area?",
    "Your booking is made, the reference is QX81MP2T. Anything else?",
)
ANSWERS = ("A cheap one please.", "Yes, for 2 people and 3 nights.", "From friday.", "And a thai restaurant?")


def completion(text: str) -> Completion:
    return Completion(
        text=text, tool_calls=(), token_ids=None, finish_reason="stop", prompt_tokens=300, cached_tokens=250,
        completion_tokens=len(text) // 4, prompt_digest=None,
    )  # fmt: skip


def search_turn(draw: random.Random) -> tuple[tuple[Message, ...], tuple[CallRecord, ...]]:
    arguments = draw.choice(
        [{"area": "north"}, {"area": "north", "pricerange": "cheap"}, {"stars": "4", "parking": "yes"}]
    )
    rows = [{"name": draw.choice(["lovell lodge", "acorn guest house", "city roomz"])}]
    call = CallRecord("search_hotel", arguments, {"rows": rows}, {"matches": draw.randint(1, 9)} | rows[0], False, ())
    messages = (
        Message("assistant", str(arguments), (ToolCall("search_hotel", arguments),)),
        Message("tool", str(rows[0])),
    )
    return messages, (call,)


def grown_tree(rounds: int = 15, beam: int = 8, collapses: tuple[int, ...] = (4, 8, 13), seed: int = 0) -> Tree:
    """Grow a tree as the search would, with random turns, and rewards in the given rounds."""
    draw = random.Random(seed)
    nodes: dict[tuple[int, ...], Node] = {}

    def change(path: tuple[int, ...], **changes: object) -> None:
        nodes[path] = Node(**{**nodes[path].__dict__, **changes})

    def add(path: tuple[int, ...], round_: int) -> None:
        messages, calls = search_turn(draw) if round_ and draw.random() < 0.6 else ((), ())
        speech = draw.choice(SPEECHES)
        if round_:
            messages += (Message("assistant", speech),)
        error_turn = bool(round_) and draw.random() < 0.06
        answer = draw.choice(ANSWERS) if round_ else "Hi, I need a cheap place to stay in the north."
        nodes[path] = Node(
            node_id="n" + ("_".join(map(str, path)) or "root"),
            parent_id=("n" + ("_".join(map(str, path[:-1])) or "root")) if path else None,
            path=path, round=round_, messages=(*messages, Message("user", answer)),
            completions=tuple(completion(m.content) for m in messages if m.role == "assistant"),
            calls=calls, earned=(), golden=False, successful=False, error_turn=error_turn, failure=None,
            failure_message=None, end=None, told=None,
        )  # fmt: skip

    add((), 0)
    live: list[tuple[int, ...]] = [()]
    earned = 0
    for round_ in range(1, rounds + 1):
        width = 2 if 2 * len(live) <= beam else 1
        live = [(*path, index) for path in live for index in range(width)]
        for path in live:
            add(path, round_)
        if round_ in collapses:
            golden = live[len(live) // 2]
            others = [live[-1]] if len(live) > 4 else []
            for path in (golden, *others):
                wanted = GOAL.calls[earned]
                rows = {"rows": [{"name": "lovell lodge"}]}
                call = CallRecord(
                    wanted.tool, wanted.parameters, rows, {"matches": 1, "name": "lovell lodge"}, False, (earned,)
                )
                change(path, earned=(earned,), calls=(call,), error_turn=False)
                for length in range(len(path) + 1):
                    change(path[:length], successful=True, **({"golden": True} if path == golden else {}))
            for path in live:
                if path != golden:
                    change(path, end="pruned")
            earned += 1
            live = [golden]
            if earned == len(GOAL.calls):
                change(golden, end="solved")
                break
        elif len(live) > 2:
            dying = draw.choice(live)
            if draw.random() < 0.3:
                change(dying, end="user_done")
                live.remove(dying)
            elif draw.random() < 0.2:
                change(dying, end="failed", failure="timeout", failure_message="no answer within 60 s")
                live.remove(dying)
    else:
        for path in live:
            change(path, end="rounds_spent")
    ordered = sorted(nodes.values(), key=lambda node: (node.round, node.path))
    return Tree(
        rollout_id="5be0c7a1f4d2938e", goal_id=GOAL.goal_id, policy_digest="9a1b2c3d4e5f6071", seed=7,
        settings_digest="77aa88bb99cc00dd", retry=0, system="You help people in Cambridge.", tools=(),
        nodes=tuple(ordered), earned=tuple(range(earned)), reward=earned / len(GOAL.calls),
        rounds=ordered[-1].round, failure=None, failure_message=None,
        usage=Usage(
            requests=len(nodes) * 2,
            prompt_tokens=41_250,
            cached_tokens=33_100,
            completion_tokens=3_180,
            seconds=19.4,
        ),
    )  # fmt: skip


def drawn_tree(tree: Tree | None = None) -> DrawnTree:
    tree = tree or grown_tree()
    rows = {}
    for node in tree.nodes:
        if node.golden and node.round:
            rows[node.node_id] = NodeRows(golden=1, desirable=2, row_ids=("r-sft", f"r-{node.node_id}"))
        elif node.parent_id and not node.successful and tree.by_id[node.parent_id].golden:
            rows[node.node_id] = NodeRows(undesirable=1, row_ids=(f"r-{node.node_id}",))
    return DrawnTree(tree=tree, goal=GOAL, policy="cold start", iteration=1, rows=rows)


def policy_score(name: str, success: float, n: int = 150, kind: str = "part", **changes: Any) -> PolicyScore:
    interval = wilson(round(success * n), n)
    hotel, restaurant = wilson(round(success * 70), 70), wilson(round(success * 1.05 * 80), 80)
    train = wilson(round(success * 20), 20)
    found = Score(
        policy="9a1b2c3d4e5f6071", n=n, trials=1, reward=success * 0.75 + 0.2,
        success=round(success * n) / n, low=interval.low, high=interval.high,
        by={
            "domain": (
                Breakdown("hotel", 70, success, round(success * 70) / 70, hotel.low, hotel.high),
                Breakdown(
                    "restaurant", 80, success, round(success * 84) / 80, restaurant.low, restaurant.high
                ),
                Breakdown("train", 20, success, round(success * 20) / 20, train.low, train.high),
            ),
            "act": (
                Breakdown("booking", 40, success - 0.1, max(success - 0.1, 0.0), 0.0, 1.0),
                Breakdown("search", n, success + 0.1, success + 0.1, 0.0, 1.0),
            ),
            "tool": (
                Breakdown("book_hotel", 40, success - 0.1, max(success - 0.1, 0.0), 0.0, 1.0),
                Breakdown("search_hotel", 70, success + 0.1, success + 0.1, 0.0, 1.0),
            ),
        },
        errors={"search wrong": round((1 - success) * 90), "booking not made": round((1 - success) * 60)},
        failures={}, turns=4.2, error_turns=0.004, calls=400, faulty_calls=0.012, faults={"unknown tool": 2},
        pass_k=(success,), usage=Usage(),
    )  # fmt: skip
    blank = PolicyScore(
        iteration=int(name[-1]) if name[-1].isdigit() else 0, attempt=1, superseded=False, name=name,
        corpus="sample-700", goals=goal_kind(kind, ToolWoz), role="test", score=found, promoted=None,
    )  # fmt: skip
    return replace(blank, **changes)


def lost_goals(policy: str, reasons: Mapping[str, int]) -> LostGoals:
    failures = tuple(
        Failure(f"goal{n}", f"MUL{n}", f"episode{n}", 0, "search_hotel", why, "area", "the user left")
        for why, number in reasons.items()
        for n in range(number)
    )
    return LostGoals(policy, "test", 150, failures)


def policy_change(before: str, after: str, change: tuple[float, float, float], **changes: Any) -> PolicyChange:
    blank = PolicyChange(
        iteration=1, before=before, after=after, goals=goal_kind("part", ToolWoz), role="test",
        metric="success", n=150,
        mean_before=0.25, mean_after=0.25 + change[1], difference=change[1], low=change[0], high=change[2],
        won=48, lost=7, both=31, neither=64,
    )  # fmt: skip
    return replace(blank, **changes)


def policy_drift(name: str, mean: float, **changes: Any) -> PolicyDrift:
    kinds = {"chat": 1.6 * mean, "code": 0.7 * mean, "facts": 0.7 * mean}
    found = Drift(mean, mean - 0.1, mean + 0.12, texts=40, tokens=651, by_kind=kinds)
    iteration = int(name[-1]) if name[-1].isdigit() else 0
    return replace(PolicyDrift(iteration, name, found, max_drift=1.5, reason=None), **changes)


def conversation(ending: str) -> tuple[Message, ...]:
    call = {"area": "north", "pricerange": "cheap"}
    return (
        Message("user", "Hi, I need a cheap place to stay in the north."),
        Message("assistant", '{"name": "search_hotel"}', (ToolCall("search_hotel", call),)),
        Message("tool", '{"matches": 2, "name": "lovell lodge", "area": "north", "stars": "2"}'),
        Message("assistant", "Lovell Lodge is a cheap guesthouse in the north. Shall I book it?"),
        Message("user", "Yes, for 2 people and 3 nights from friday."),
        Message("assistant", ending),
        Message("user", "Thank you, goodbye."),
    )


def report_data() -> ReportData:
    draw = random.Random(1)
    lost = Played("cold start", conversation("Your booking is made!"), 0.5, (0,))
    won = Played("JOSH round 2", conversation("Booked, the reference is QX81MP2T."), 1.0, (0, 1))
    part = replace(
        GOAL,
        part="hotel",
        kind="part",
        title="hotel part of MUL0784",
        calls=GOAL.calls[:2],
        message=GOAL.message[:2],
        goal_id="part",
    )
    curves = tuple(
        TrainingCurve(
            name, method, tuple((s, high * 0.94**s + draw.random() * 0.05 + 0.2) for s in range(steps))
        )
        for name, method, steps, high in (
            ("cold start", "sft", 48, 2.3), ("JOSH round 1", "sft", 20, 0.5), ("JOSH round 2", "sft", 30, 0.4)
        )
    )  # fmt: skip
    return ReportData(
        created="2026-01-31 12:00", profile="quickstart", seed=0, model="SmolLM2-135M-Instruct",
        corpus=CorpusFacts("sample-700", "built-in sample corpus", "Generated; free to use.", "ab12", 700),
        injected=InjectedFaults(96, Carelessness(0.5, 0.3, 0.15), 0.52),
        ceiling=Ceiling(150, 146, ()), unread=None, unused=(),
        scores=(
            policy_score("cold start", 0.25),
            policy_score("JOSH round 1", 0.55, promoted=True, trees=48, full_trees=20, rows=20),
            policy_score("JOSH round 2", 0.69, promoted=True, trees=48, full_trees=35, rows=35),
            policy_score("cold start", 0.22, n=60, role="val"),
            policy_score("JOSH round 1", 0.5, n=60, role="val", promoted=True),
            policy_score("JOSH round 2", 0.17, n=90, kind="whole", promoted=True),
        ),
        lost=(
            lost_goals("cold start", {"left an argument out": 70, "claimed, not made": 42}),
            lost_goals("JOSH round 1", {"left an argument out": 60, "claimed, not made": 7}),
        ),
        changes=(
            policy_change("cold start", "JOSH round 1", (0.21, 0.30, 0.39)),
            policy_change("cold start", "JOSH round 1", (0.11, 0.18, 0.25), metric="reward"),
            policy_change("JOSH round 1", "JOSH round 2", (-0.01, 0.14, 0.22), won=29, lost=8, both=75),
            policy_change("cold start", "JOSH round 2", (0.35, 0.44, 0.53), mean_after=0.69, won=70, lost=4),
            policy_change("cold start", "JOSH round 1", (0.1, 0.3, 0.4), role="val", n=60, metric="reward"),
        ),
        decisions=(
            Decision(1, "JOSH round 1", True, "Mean reward on 60 validation goals went up: a gain."),
            Decision(2, "JOSH round 2", True, "Mean reward on 60 validation goals went up: a gain."),
        ),
        drifts=(
            policy_drift("cold start", 0.65), policy_drift("JOSH round 1", 0.70),
            policy_drift("JOSH round 2", 0.74),
        ),
        curves=curves,
        harvests=(
            HarvestYield(1, "JOSH round 1", 48, 20, 15, 12, 1, {"SFT golden conversations": 35},
                         {r: (40 - 7 * r, max(0, 30 - 6 * r)) for r in range(1, 6)},
                         shape=Shape(300, 99, Counter(user_done=61, rounds_spent=4), Counter(booking=19, search=12))),
            HarvestYield(2, "JOSH round 2", 48, 35, 8, 5, 0, {"SFT golden conversations": 43},
                         {r: (50 - 9 * r, max(0, 25 - 6 * r)) for r in range(1, 6)}, shape=Shape(200, 104)),
        ),
        costs=(
            Cost(0, "", "cold start", 230, Usage(completion_tokens=138_000)),
            Cost(0, "", "evaluation", 52, Usage(800, 0, 310_000, 251_000, 14_000)),
            Cost(1, "JOSH round 1", "rollouts", 94, Usage(2_900, 0, 1_210_000, 1_010_000, 51_000)),
            Cost(1, "JOSH round 1", "training", 102, Usage(completion_tokens=31_000)),
            Cost(1, "JOSH round 1", "evaluation", None, Usage(790, 0, 300_000, 241_000, 13_500)),
        ),
        examples=(
            Example(2, "won", part, lost, won),
            Example(2, "lost", part, replace(won, policy="cold start"), replace(lost, policy="JOSH round 2")),
        ),
        tree=drawn_tree(),
        settings=SETTINGS.model_dump(mode="json"),
        versions={"python": "3.11.9", "dagster": "1.13.27", "torch": "2.13.0"}, git_commit="0123abcd+",
    )  # fmt: skip
