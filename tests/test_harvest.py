import dataclasses
from collections.abc import Iterable

from fakes import MoodyWorld, ScriptedPolicy, TinyAgent, choosing, grow, said
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokens import tiny_ids

from josh_pipeline.core.policy import Request
from josh_pipeline.harvest.checks import check_rows
from josh_pipeline.harvest.harvest import HarvestResult, counted, harvest_unfiltered, with_earlier, without_long
from josh_pipeline.harvest.harvest import harvest as harvest_of
from josh_pipeline.harvest.rows import Row, Side, held_out
from josh_pipeline.search.tree import Tree
from josh_pipeline.training.methods import method_class

MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")
NOBODY: frozenset[str] = frozenset()


def harvest(trees: list[Tree], method: str, mode: str, forbidden: object) -> HarvestResult:
    return harvest_of(trees, method, method_class(method).kind, mode, forbidden)  # type: ignore[arg-type]


def mixed_tree(seed: int = 0, goal: str = "goal", **options: object) -> Tree:
    return grow(ScriptedPolicy(MIXED), "ab", goal=goal, seed=seed, **options)


def mixed_trees(count: int = 6) -> list[Tree]:
    return [mixed_tree(seed, f"goal {seed}") for seed in range(count)]


def one_of_two(good: str, bad: str) -> ScriptedPolicy:
    """The left child says what is good, the right one what is bad; after a call both say 'here'."""

    def answer(request: Request) -> str:
        if request.messages[-1].role == "tool":
            return "here"
        turns.append(request)
        return bad if len(turns) % 2 == 0 else good

    turns: list[Request] = []
    return ScriptedPolicy(answer)


def content(side: Side | None) -> str:
    """The text of a side of one message."""
    assert side is not None
    (message,) = side.messages
    return message.content


def texts(rows: Iterable[Row]) -> list[tuple[str, bool]]:
    return [(content(row.sides[0]), row.label == "desirable") for row in rows]


def relabelled(row: Row, label: str) -> Row:
    return dataclasses.replace(row, sides=(dataclasses.replace(row.sides[0], label=label),))


def trained_texts(row: Row) -> list[str]:
    return [one.message.content for one in row.sides[0].said if one.train]


def test_each_message_of_the_golden_path_is_a_desirable_row_and_its_rival_an_undesirable_one():
    tree = grow(one_of_two("GET a", "no"), "a")
    rows = harvest([tree], "kto", "paper", NOBODY).rows
    assert texts(rows) == [("GET a", True), ("no", False), ("here", True)]
    first, rival, second = rows
    assert first.prompt == rival.prompt == (first.prompt[0], *tree.nodes[0].messages)
    assert second.prompt[-1].role == "tool" and first.prompt[0].role == "system"
    assert first.tools == ({"name": "get"},)


def test_rows_keep_the_tokens_that_were_sampled():
    rows = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    assert [row.sides[0].said[0].token_ids for row in rows] == [tiny_ids(text) for text in ("GET a", "no", "here")]


def test_pairs_are_all_desirable_and_undesirable_messages_that_share_a_prompt():
    tree = grow(one_of_two("GET a", "no"), "a")
    result = harvest([tree], "dpo", "paper", NOBODY)
    (pair,) = result.rows
    assert (content(pair.good), content(pair.bad)) == ("GET a", "no")
    ends = {node.path: node.node_id for node in tree.nodes}
    assert [(origin.node_id, origin.part) for origin in result.origins] == [
        (ends[(0,)], "chosen"),
        (ends[(1,)], "rejected"),
    ]


def test_an_interior_node_off_the_golden_path_gives_undesirable_rows():
    tree = grow(said("no", "GET a", "here"), "ab", max_rounds=4, beam_size=4)
    other = grow(one_of_two("well", "hm"), "ab", max_rounds=2)
    assert not harvest([other], "kto", "partial", NOBODY).rows
    undesirable = [row for row in harvest([tree], "kto", "partial", NOBODY).rows if row.label == "undesirable"]
    assert undesirable == []  # every node said the same as the golden one

    def answer(request: Request) -> str:
        spoken = sum(m.role == "assistant" for m in request.messages)
        if spoken == 0:
            openings.append("well" if openings else "hm")
            return openings[-1]
        if request.messages[-1].role == "tool":
            return "here"
        return "GET a" if request.messages[2].content == "hm" else "no"

    openings: list[str] = []
    tree = grow(ScriptedPolicy(answer), "a", max_rounds=4)
    rival = next(node for node in tree.nodes if node.path == (1,))
    assert rival.end is None
    rows = harvest([tree], "kto", "paper", NOBODY).rows
    assert ("well", False) in texts(rows) and ("no", False) not in texts(rows)


def test_a_successful_sibling_of_the_golden_leaf_gives_no_undesirable_row():
    tree = grow(one_of_two("GET a", "GET a b"), "abc", max_rounds=1)
    assert [node.successful for node in tree.nodes] == [True, True, True]
    assert all(row.label == "desirable" for row in harvest([tree], "kto", "partial", NOBODY).rows)


def test_a_void_sibling_is_undesirable():
    tree = grow(one_of_two("GET a", "GET z"), world=MoodyWorld("ah"), max_rounds=1)
    assert tree.nodes[2].end == "void"
    assert texts(harvest([tree], "kto", "partial", NOBODY).rows) == [
        ("GET a", True), ("GET z", False), ("here", True),
    ]  # fmt: skip


def test_paper_asks_for_the_outcome_one():
    lacking = grow(said("GET a", "here"), world=MoodyWorld("ah"))
    whole = grow(said("GET a", "a gift"), world=MoodyWorld("ah"))
    assert lacking.earned == whole.earned and (lacking.reward, whole.reward) == (0.25, 1.0)
    assert harvest([lacking], "sft", "paper", NOBODY).refused == {"too_little_reward": 1}
    assert len(harvest([lacking], "sft", "partial", NOBODY).rows) == 1
    assert len(harvest([whole], "sft", "paper", NOBODY).rows) == 1


def test_a_conversation_gives_a_row_for_each_stretch_in_which_the_agent_was_told_the_same():
    tree = grow(said("GET a", "here", "hm", "GET b", "a gift"), world=MoodyWorld("ahb"), beam_size=1)
    assert tree.reward == 1.0
    first, second = harvest([tree], "sft", "paper", NOBODY).rows
    assert first.tools == ({"name": "get"},) and second.tools == ({"name": "get"}, {"name": "put"})
    assert trained_texts(first) == ["GET a", "here"]
    assert trained_texts(second) == ["hm", "GET b", "a gift"]
    whole = tree.conversation(tree.nodes[-1])
    assert first.conversation(first.sides[0])[1:] == whole[:4]
    assert second.conversation(second.sides[0])[1:] == whole
    assert second.sides[0].messages[0].role == "user" and second.label == "golden conversation"
    assert check((first, second)) == {}
    for method in ("kto", "dpo"):
        for row in harvest([tree], method, "paper", NOBODY).rows:
            later = any(message.content in ("here", "hm") for message in row.prompt)
            assert row.tools == (second if later else first).tools


def test_a_stretch_of_a_single_message_is_a_conversation_too():
    tree = grow(said("GET a", "here", "GET b"), world=MoodyWorld("ahb"), beam_size=1, step_by="action")
    *_, last = harvest([tree], "sft", "partial", NOBODY).rows
    assert trained_texts(last) == ["GET b"] and last.kind == "conversations"


def test_paper_takes_full_reward_only_and_partial_takes_any():
    tree = grow(one_of_two("GET a", "no"), "ab", max_rounds=1)
    assert tree.reward == 0.5
    paper = harvest([tree], "sft", "paper", NOBODY)
    assert paper.rows == () and paper.refused == {"too_little_reward": 1}
    assert len(harvest([tree], "sft", "partial", NOBODY).rows) == 1


def test_nothing_earned_gives_nothing():
    tree = grow(said("hello"), max_rounds=2)
    assert tree.golden_end is None
    assert harvest([tree], "sft", "partial", NOBODY).refused == {"too_little_reward": 1}


def test_paper_drops_a_golden_path_with_an_error_that_partial_keeps():
    tree = grow(said("GET x", "GET a", "here"), "a")
    assert tree.reward == 1.0
    assert harvest([tree], "kto", "paper", NOBODY).refused == {"error_on_golden_path": 1}
    assert len(harvest([tree], "kto", "partial", NOBODY).rows) == 3


def test_error_turns_and_unreadable_replies_carry_no_loss():
    tree = grow(said("GET x", "GET y", "?", "hm", "GET a", "bye"), "a", max_requests=2, beam_size=1)
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    said_and_trained = [
        (one.message.content, one.train)
        for one in row.sides[0].said
        if one.message.role == "assistant" and not one.message.error
    ]
    assert [text for text, _ in said_and_trained] == ["GET x", "GET y", "?", "hm", "GET a", "bye"]
    assert [train for _, train in said_and_trained] == [False, False, False, True, True, True]


def test_a_turn_that_recovers_from_an_unreadable_reply_trains_the_rest():
    tree = grow(said("?", "GET a", "here"), "a")
    result = harvest([tree], "kto", "partial", NOBODY)
    assert texts(result.rows) == [("GET a", True), ("here", True)]
    assert result.refused == {"unreadable": 1}


def test_a_message_that_the_token_limit_cut_is_not_learned_but_the_rest_of_its_conversation_is():
    tree = grow(said("GET a", "here it is, and then..."), "a")
    result = harvest([tree], "kto", "partial", NOBODY)
    assert texts(result.rows) == [("GET a", True)]
    assert result.refused == {"cut_off": 1}
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    assert trained_texts(row) == ["GET a"]


def test_the_fallback_sentence_is_nobodys_row():
    tree = grow(said("GET a", "GET x", "GET x"), "ab", max_rounds=1)
    for method in ("kto", "sft", "dpo"):
        result = harvest([tree], method, "partial", NOBODY)
        assert result.rows == () and result.refused["error_turn"] == 3


def test_stepping_by_action_refuses_the_whole_error_turn():
    tree = grow(said("GET x", "GET y", "hm", "GET a", "here"), "a", step_by="action", max_requests=2, beam_size=2)
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    assert trained_texts(row) == ["hm", "GET a"]


def test_the_sft_row_ends_with_the_agents_last_message_and_trains_the_agent_only():
    tree = grow(said("GET a", "here"), "ab", max_rounds=1)
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    assert [m.role for m in row.prompt] == ["system"]
    _, call, result, _ = side = row.sides[0].said
    assert [one.message.role for one in side] == ["user", "assistant", "tool", "assistant"]
    assert [one.train for one in side] == [False, True, False, True]
    assert call.token_ids == tiny_ids("GET a") and result.token_ids is None
    assert trained_texts(row) == ["GET a", "here"], "the user's answer is left out"
    assert row.label == "golden conversation"


def test_trees_of_evaluation_goals_are_refused():
    trees = mixed_trees()
    result = harvest(trees, "kto", "partial", {"goal 0", "goal 1"})
    assert result.refused["leakage"] == 2
    assert not {row.source.goal_id for row in result.rows} & {"goal 0", "goal 1"}
    assert harvest_unfiltered(trees, 99, 0, {"goal 0"}).refused["leakage"] == 1


def test_a_row_that_many_nodes_gave_is_one_row_with_many_links():
    def answer(request: Request) -> str:
        if request.messages[-1].role == "tool":
            return "here"
        openings.append("GET a" if not openings else "no")
        return openings[-1]

    openings: list[str] = []
    tree = grow(ScriptedPolicy(answer), "a", max_rounds=1)
    assert texts(harvest([tree], "kto", "paper", NOBODY).rows).count(("no", False)) == 1
    twice = harvest([tree, dataclasses.replace(tree, rollout_id="another")], "kto", "paper", NOBODY)
    assert len(twice.rows) == 3 and twice.refused == {"duplicate": 3}
    assert [sum(o.row_id == row.row_id for o in twice.origins) for row in twice.rows] == [2, 2, 2]


def test_what_is_desirable_in_one_tree_is_undesirable_in_none():
    right = grow(one_of_two("GET a", "no"), "a")
    wrong = grow(one_of_two("GET a b", "GET a x"), "ab", max_rounds=1)
    assert not wrong.nodes[2].golden
    good_elsewhere = grow(one_of_two("no", "GET a"), "a")
    result = harvest([right, good_elsewhere], "kto", "paper", NOBODY)
    labels: dict[tuple[str, str], set[str]] = {}
    for row in result.rows:
        labels.setdefault((row.prompt_id, content(row.sides[0])), set()).add(row.label)
    assert all(len(found) == 1 for found in labels.values())


def test_unfiltered_rows_are_whole_random_conversations_of_the_number_asked_for():
    trees = mixed_trees()
    result = harvest_unfiltered(trees, 4, seed=1, forbidden_goals=NOBODY)
    assert len(result.rows) == 4 == len({row.source.goal_id for row in result.rows})
    assert harvest_unfiltered(trees, 4, seed=1, forbidden_goals=NOBODY) == result
    assert harvest_unfiltered(trees, 4, seed=2, forbidden_goals=NOBODY) != result
    many = harvest_unfiltered(trees, 10_000, seed=1, forbidden_goals=NOBODY)
    assert len(trees) < len(many.rows) < 10_000
    ends = {node.node_id for tree in trees for node in tree.nodes if node.end is not None}
    assert {origin.node_id for origin in many.origins} & ends


def test_a_desirable_row_that_is_too_long_takes_its_rivals_along():
    result = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY)
    lengths = {"GET a": 100, "no": 10, "here": 10}
    kept = without_long(counted(result, lambda row: lengths[content(row.sides[0])]), 50)
    assert texts(kept.rows) == [("here", True)] and kept.rows[0].tokens == 10
    assert {origin.row_id for origin in kept.origins} == {kept.rows[0].row_id}


def test_earlier_rows_add_what_newer_rows_do_not_judge():
    tree = grow(one_of_two("GET a", "no"), "a")
    good, rival, here = harvest([tree], "kto", "paper", NOBODY).rows
    turned = relabelled(good, "undesirable")
    pair = harvest([tree], "dpo", "paper", NOBODY).rows[0]
    chosen, rejected = (side.said for side in pair.sides)
    back = dataclasses.replace(pair, sides=(Side(rejected, "desirable"), Side(chosen, "undesirable")))
    assert with_earlier([good], [[turned, rival], [rival, here]]) == [good, rival, here]
    assert with_earlier([good], [[pair]]) == [good], "a row of another method is left out"
    assert with_earlier([pair], [[back]]) == [pair]


def check(rows: object, max_tokens: int = 10_000) -> dict[str, bool]:
    """Rule to blocking."""
    counted_rows = [dataclasses.replace(row, tokens=100) for row in rows]  # type: ignore[attr-defined]
    return {remark.rule: remark.blocking for remark in check_rows(counted_rows, TinyAgent(), max_tokens)}


def test_the_check_lets_a_harvest_pass_and_shows_the_balance():
    rows = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    (remark,) = check_rows(rows, TinyAgent(), 10)
    assert not remark.blocking and remark.message == "2 desirable and 1 undesirable rows."


def test_the_check_blocks_an_empty_harvest_and_missing_labels():
    assert check(()) == {"no_rows": True}
    rows = harvest([grow(said("GET a", "here"), "a")], "kto", "paper", NOBODY).rows
    assert check(rows)["both_labels"]


def test_the_check_blocks_rows_that_would_be_cut_or_do_not_parse():
    (row,) = harvest([grow(said("GET a", "here"), "a")], "sft", "paper", NOBODY).rows
    assert check([row]) == {} and check([row], max_tokens=99) == {"too_long": True}
    opening, call, *others = row.sides[0].said
    broken = dataclasses.replace(call.message, content="?", tool_calls=())
    side = Side((opening, dataclasses.replace(call, message=broken), *others), "desirable")
    spoilt = dataclasses.replace(row, sides=(side,))
    assert check([spoilt]) == {"parses": True}


def test_the_check_blocks_orphans_contradictions_doubles_and_empty_pairs():
    good, bad, second = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    assert check([bad, second]) == {"same_prompt": True, "balance": False}
    assert check([good, relabelled(good, "undesirable")])["contradiction"]
    assert check([good, good, bad])["unique"]
    same = (good.sides[0], Side(good.sides[0].said, "undesirable"))
    pair = Row("dpo", good.source, good.tools, good.prompt, same)
    assert check([pair]) == {"same_sides": True}
    assert check([good, bad, pair])["mixed_methods"]
    assert check([dataclasses.replace(good, prompt=good.prompt[:1]), bad])["prompt_ends"]


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 400), min_size=1, max_size=4, unique=True), step=st.booleans())
def test_harvests_of_any_trees_pass_the_check_and_pair_rows_that_share_prompts(seeds, step):
    step_by = "action" if step else "turn"
    trees = [mixed_tree(seed, f"goal {seed % 3}", step_by=step_by, max_rounds=6) for seed in seeds]
    kto = harvest(trees, "kto", "partial", NOBODY)
    desirable = {row.prompt_id for row in kto.rows if row.good}
    assert all(row.prompt_id in desirable for row in kto.rows)
    assert not {"same_prompt", "contradiction", "unique", "parses", "prompt_ends"} & set(check(kto.rows))
    good = {(row.prompt_id, content(row.good)) for row in kto.rows if row.good}
    bad = {(row.prompt_id, content(row.bad)) for row in kto.rows if row.bad}
    dpo = harvest(trees, "dpo", "partial", NOBODY)
    for pair in dpo.rows:
        assert (pair.prompt_id, content(pair.good)) in good and (pair.prompt_id, content(pair.bad)) in bad
        assert pair.label == "pair"
    nodes = {node.node_id: node for tree in trees for node in tree.nodes}
    for result in (kto, dpo, harvest(trees, "sft", "partial", NOBODY)):
        assert {origin.row_id for origin in result.origins} == {row.row_id for row in result.rows}
        assert {origin.node_id for origin in result.origins} <= set(nodes)


def test_the_name_of_a_row_depends_on_its_content_alone():
    good, rival, _ = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    elsewhere = dataclasses.replace(good.source, rollout_id="another")
    assert dataclasses.replace(good, source=elsewhere, tokens=7).row_id == good.row_id
    others = [
        rival,
        relabelled(good, "undesirable"),
        dataclasses.replace(good, method="other"),
        dataclasses.replace(good, tools=()),
        dataclasses.replace(good, prompt=good.prompt[:1]),
    ]
    assert len({row.row_id for row in (good, *others)}) == 6


def test_goals_of_evaluation_roles_of_their_sources_and_unknown_ones_are_held_out():
    roles = [("a", "1", "train"), ("b", "1", "test"), ("c", "2", "train"), ("d", "3", "val")]
    assert held_out("abcdx", roles) == set("abdx")
    assert held_out("c", roles) == set()
