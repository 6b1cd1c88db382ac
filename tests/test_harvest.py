import dataclasses

from fakes import ScriptedPolicy, TinyAgent, choosing, grow, said
from hypothesis import given, settings
from hypothesis import strategies as st

from josh_pipeline.core.policy import Request
from josh_pipeline.harvest.checks import check_rows
from josh_pipeline.harvest.harvest import golden_end, harvest, harvest_unfiltered
from josh_pipeline.harvest.replay import with_replayed
from josh_pipeline.harvest.rows import DpoRow, prompt_id
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.preferences import without_long

MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")
NOBODY: frozenset[str] = frozenset()


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


def texts(rows: object) -> list[tuple[str, bool]]:
    return [(row.completion.message.content, row.desirable) for row in rows]  # type: ignore[attr-defined]


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
    assert [row.completion.token_ids for row in rows] == [
        tuple(map(ord, text)) for text in ("GET a", "no", "here")
    ]


def test_pairs_are_all_desirable_and_undesirable_messages_that_share_a_prompt():
    tree = grow(one_of_two("GET a", "no"), "a")
    result = harvest([tree], "dpo", "paper", NOBODY)
    (pair,) = result.rows
    assert (pair.chosen.message.content, pair.rejected.message.content) == ("GET a", "no")
    ends = {node.path: node.node_id for node in tree.nodes}
    assert [(link.node_id, link.part) for link in result.links] == [
        (ends[(0,)], "chosen"),
        (ends[(1,)], "rejected"),
    ]


def test_an_interior_node_off_the_golden_path_gives_undesirable_rows():
    tree = grow(said("no", "GET a", "here"), "ab", max_rounds=4, beam_size=4)
    other = grow(one_of_two("well", "hm"), "ab", max_rounds=2)
    assert not harvest([other], "kto", "partial", NOBODY).rows
    undesirable = [row for row in harvest([tree], "kto", "partial", NOBODY).rows if not row.desirable]
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
    assert all(row.desirable for row in harvest([tree], "kto", "partial", NOBODY).rows)


def test_paper_takes_full_reward_only_and_partial_takes_any():
    tree = grow(one_of_two("GET a", "no"), "ab", max_rounds=1)
    assert tree.reward == 0.5
    paper = harvest([tree], "sft", "paper", NOBODY)
    assert paper.rows == () and paper.refused == {"too_little_reward": 1}
    assert len(harvest([tree], "sft", "partial", NOBODY).rows) == 1


def test_nothing_earned_gives_nothing():
    tree = grow(said("hello"), max_rounds=2)
    assert golden_end(tree) is None
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
        (m.content, train)
        for m, train in zip(row.messages, row.train, strict=True)
        if m.role == "assistant" and not m.error
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
    trained = [m.content for m, train in zip(row.messages, row.train, strict=True) if train]
    assert trained == ["GET a"]


def test_the_fallback_sentence_is_nobodys_row():
    tree = grow(said("GET a", "GET x", "GET x"), "ab", max_rounds=1)
    for method in ("kto", "sft", "dpo"):
        result = harvest([tree], method, "partial", NOBODY)
        assert result.rows == () and result.refused["error_turn"] == 3


def test_stepping_by_action_refuses_the_whole_error_turn():
    tree = grow(
        said("GET x", "GET y", "hm", "GET a", "here"), "a", step_by="action", max_requests=2, beam_size=2
    )
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    trained = [m.content for m, train in zip(row.messages, row.train, strict=True) if train]
    assert trained == ["hm", "GET a"]


def test_the_sft_row_ends_with_the_agents_last_message_and_trains_the_agent_only():
    tree = grow(said("GET a", "here"), "ab", max_rounds=1)
    (row,) = harvest([tree], "sft", "partial", NOBODY).rows
    assert [m.role for m in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.train == (False, False, True, False, True)
    assert row.token_ids[2] == tuple(map(ord, "GET a")) and row.token_ids[3] is None
    assert [m.content for m in row.messages[-3:]][::2] == ["GET a", "here"], "the user's answer is left out"


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
    assert [sum(link.row_id == row.row_id for link in twice.links) for row in twice.rows] == [2, 2, 2]


def test_what_is_desirable_in_one_tree_is_undesirable_in_none():
    right = grow(one_of_two("GET a", "no"), "a")
    wrong = grow(one_of_two("GET a b", "GET a x"), "ab", max_rounds=1)
    assert not wrong.nodes[2].golden
    good_elsewhere = grow(one_of_two("no", "GET a"), "a")
    result = harvest([right, good_elsewhere], "kto", "paper", NOBODY)
    labels: dict[tuple[str, str], set[bool]] = {}
    for row in result.rows:
        key = prompt_id(row.tools, row.prompt), row.completion.message.content
        labels.setdefault(key, set()).add(row.desirable)
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
    assert {link.node_id for link in many.links} & ends


def test_a_desirable_row_that_is_too_long_takes_its_rivals_along():
    result = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY)
    lengths = {"GET a": 100, "no": 10, "here": 10}
    kept = without_long(result, lambda row: lengths[row.completion.message.content], 50)  # type: ignore[union-attr]
    assert texts(kept.rows) == [("here", True)]
    assert {link.row_id for link in kept.links} == {kept.rows[0].row_id}


def test_replayed_rows_add_what_newer_rows_do_not_judge():
    tree = grow(one_of_two("GET a", "no"), "a")
    good, rival, here = harvest([tree], "kto", "paper", NOBODY).rows
    turned = dataclasses.replace(good, desirable=False)
    pair = harvest([tree], "dpo", "paper", NOBODY).rows[0]
    back = dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    assert with_replayed([good], [[turned, rival], [rival, here]]) == [good, rival, here]
    assert with_replayed([good], [[pair]]) == [good], "a row of another method is left out"
    assert with_replayed([pair], [[back]]) == [pair]


def check(rows: object, max_tokens: int = 10_000) -> dict[str, bool]:
    """Rule to blocking."""
    found = check_rows(tuple(rows), TinyAgent(), lambda row: 100, max_tokens)  # type: ignore[arg-type]
    return {finding.rule: finding.blocking for finding in found}


def test_the_check_lets_a_harvest_pass_and_shows_the_balance():
    rows = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    (finding,) = check_rows(rows, TinyAgent(), lambda row: 1, 10)
    assert not finding.blocking and finding.message == "2 desirable and 1 undesirable rows."


def test_the_check_blocks_an_empty_harvest_and_missing_labels():
    assert check(()) == {"no_rows": True}
    rows = harvest([grow(said("GET a", "here"), "a")], "kto", "paper", NOBODY).rows
    assert check(rows)["both_labels"]


def test_the_check_blocks_rows_that_would_be_cut_or_do_not_parse():
    (row,) = harvest([grow(said("GET a", "here"), "a")], "sft", "paper", NOBODY).rows
    assert check([row]) == {} and check([row], max_tokens=99) == {"too_long": True}
    broken = dataclasses.replace(row.messages[2], content="?", tool_calls=())
    spoilt = dataclasses.replace(row, messages=(*row.messages[:2], broken, *row.messages[3:]))
    assert check([spoilt]) == {"parses": True}


def test_the_check_blocks_orphans_contradictions_doubles_and_empty_pairs():
    good, bad, second = harvest([grow(one_of_two("GET a", "no"), "a")], "kto", "paper", NOBODY).rows
    assert check([bad, second]) == {"same_prompt": True, "balance": False}
    assert check([good, dataclasses.replace(good, desirable=False)])["contradiction"]
    assert check([good, good, bad])["unique"]
    pair = DpoRow(good.source, good.tools, good.prompt, good.completion, good.completion)
    assert check([pair]) == {"same_sides": True}
    assert check([good, bad, pair])["mixed_methods"]
    assert check([dataclasses.replace(good, prompt=good.prompt[:1]), bad])["prompt_ends"]


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 400), min_size=1, max_size=4, unique=True), step=st.booleans())
def test_harvests_of_any_trees_pass_the_check_and_pair_rows_that_share_prompts(seeds, step):
    step_by = "action" if step else "turn"
    trees = [mixed_tree(seed, f"goal {seed % 3}", step_by=step_by, max_rounds=6) for seed in seeds]
    kto = harvest(trees, "kto", "partial", NOBODY)
    desirable = {prompt_id(row.tools, row.prompt) for row in kto.rows if row.desirable}
    assert all(prompt_id(row.tools, row.prompt) in desirable for row in kto.rows)
    assert not {"same_prompt", "contradiction", "unique", "parses", "prompt_ends"} & set(check(kto.rows))
    good = {(r.prompt, r.completion.message) for r in freeze(kto.rows) if r.desirable}
    bad = {(r.prompt, r.completion.message) for r in freeze(kto.rows) if not r.desirable}
    dpo = harvest(trees, "dpo", "partial", NOBODY)
    for pair in freeze(dpo.rows):
        assert (pair.prompt, pair.chosen.message) in good and (pair.prompt, pair.rejected.message) in bad
    nodes = {node.node_id: node for tree in trees for node in tree.nodes}
    for result in (kto, dpo, harvest(trees, "sft", "partial", NOBODY)):
        assert {link.row_id for link in result.links} == {row.row_id for row in result.rows}
        assert {link.node_id for link in result.links} <= set(nodes)


def freeze(rows: object) -> list[object]:
    """Rows whose messages can be put in sets: the tiny agent's calls are in their text anyway."""

    def plain(message):
        return dataclasses.replace(message, tool_calls=())

    frozen = []
    for row in rows:
        parts = {"prompt": tuple(map(plain, row.prompt))}
        for name in ("completion", "chosen", "rejected"):
            if hasattr(row, name):
                sampled = getattr(row, name)
                parts[name] = dataclasses.replace(sampled, message=plain(sampled.message))
        frozen.append(dataclasses.replace(row, **parts))
    return frozen
