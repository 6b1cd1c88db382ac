"""Made-up trees and results that the tests of the report draw."""

import random

from josh_pipeline.dialogue.messages import Message, ToolCall
from josh_pipeline.policies.policy import Completion
from josh_pipeline.report.tree_data import DrawnTree, NodeRows
from josh_pipeline.search.tree import CallRecord, Node, Tree, Usage
from josh_pipeline.toolwoz.goal import DomainTask, Goal, GroundTruthCall

GOAL = Goal(
    goal_id="0c4f1e9ab2d37756",
    dialogue_id="MUL0784",
    split="test",
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
    call = CallRecord("search_hotel", arguments, {"rows": rows}, draw.randint(1, 9), ())
    messages = (
        Message("assistant", str(arguments), (ToolCall("search_hotel", arguments),)),
        Message("tool", str(rows[0])),
    )
    return messages, (call,)


def grown_tree(
    rounds: int = 15, beam: int = 8, collapses: tuple[int, ...] = (4, 8, 13), seed: int = 0
) -> Tree:
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
            failure_message=None, end=None,
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
                call = CallRecord(wanted.tool, wanted.parameters, rows, 1, (earned,))
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
        settings_digest="77aa88bb99cc00dd", system="You help people in Cambridge.", tools=(),
        nodes=tuple(ordered), earned=tuple(range(earned)), reward=earned / len(GOAL.calls),
        rounds=ordered[-1].round, failure=None, failure_message=None,
        usage=Usage(len(nodes) * 2, 41_250, 33_100, 3_180, 19.4),
    )  # fmt: skip


def drawn_tree(tree: Tree | None = None) -> DrawnTree:
    tree = tree or grown_tree()
    rows = {}
    for node in tree.nodes:
        if node.golden and node.round:
            rows[node.node_id] = NodeRows(sft=1, desirable=2, row_ids=("r-sft", f"r-{node.node_id}"))
        elif node.parent_id and not node.successful and tree.by_id[node.parent_id].golden:
            rows[node.node_id] = NodeRows(undesirable=1, row_ids=(f"r-{node.node_id}",))
    return DrawnTree(tree=tree, goal=GOAL, policy="cold start", iteration=1, rows=rows)
