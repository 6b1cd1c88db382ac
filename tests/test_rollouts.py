import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import PrizeWorld, ScriptedPolicy, TinyAgent, TinyUser, after_call, chance, choosing, failing, grow

from josh_pipeline.core.policy import Policy, Request
from josh_pipeline.core.progress import Progress, SilentProgress
from josh_pipeline.core.user import User
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.evaluation.playing import rollout_digest
from josh_pipeline.search.checkpoint import Checkpointer
from josh_pipeline.search.concurrency import LimitedPolicy, Limiter
from josh_pipeline.search.rollouts import RolloutSummary, TooManyFailuresError, rollout_seed, rollouts
from josh_pipeline.search.spending import Budget, Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Prices, SearchSettings, Settings, load_settings

MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")


@dataclass(frozen=True)
class Wish:
    """A goal: prizes to win."""

    goal_id: str
    prizes: str = "ab"


WISHES = [Wish(f"goal {n}", "abc"[: n % 3 + 1]) for n in range(12)]


class Shelf:
    """Keeps trees by rollout id, and each batch as it came."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {}
        self.batches: list[int] = []

    def __call__(self, batch: list[Tree]) -> None:
        assert not {tree.rollout_id for tree in batch} & set(self.trees)
        self.trees |= {tree.rollout_id: timeless(tree) for tree in batch}
        self.batches.append(len(batch))


def timeless(tree: Tree) -> Tree:
    """A tree without what differs between a run that is paid for and one that is not."""
    return dataclasses.replace(tree, usage=dataclasses.replace(tree.usage, cost=0.0, seconds=0.0))


def running(
    policy: Policy,
    checkpoint: Callable[[list[Tree]], None],
    *,
    done: Collection[str] = (),
    retry: int = 0,
    user: User | None = None,
    wishes: list[Wish] = WISHES,
    budget: Budget | None = None,
    progress: Progress | None = None,
    **options: object,
):
    """Search wishes but those of ``done``, each of the others for the time after ``retry`` failed ones."""
    return rollouts(
        wishes,
        lambda wish: PrizeWorld(wish.prizes),
        lambda wish, seed, meter: user or TinyUser(),
        policy,
        TinyAgent(),
        SearchSettings.model_validate({"max_rounds": 4} | options),
        settings_digest="settings",
        seed=1,
        attempt=0,
        owed={wish.goal_id: retry for wish in wishes if wish.goal_id not in done},
        checkpoint=checkpoint,
        progress=progress or SilentProgress(),
        ledger=Ledger(budget or Budget(), Prices(prompt=1.0, completion=2.0)),
    )


def run(policy: Policy, checkpoint: Callable[[list[Tree]], None], **options: object) -> RolloutSummary:
    return asyncio.run(running(policy, checkpoint, **options))


def test_every_goal_gives_the_tree_that_it_gives_alone():
    shelf = Shelf()
    summary = run(ScriptedPolicy(MIXED, delay=0.002), shelf, in_flight=7)
    alone = [
        grow(ScriptedPolicy(MIXED), wish.prizes, goal=wish.goal_id, seed=rollout_seed(1, 0), max_rounds=4)
        for wish in WISHES
    ]
    assert shelf.trees == {tree.rollout_id: tree for tree in alone}
    assert summary.finished == summary.owed == 12 and summary.stored == 0
    assert summary.solved == sum(tree.reward == 1.0 for tree in alone)
    assert summary.usage.requests == sum(tree.usage.requests for tree in alone)
    assert summary.branches == sum(len(tree.nodes) - 1 for tree in alone)


def test_stored_trees_are_not_owed():
    first, second = Shelf(), Shelf()
    run(ScriptedPolicy(MIXED), first)
    kept = [wish.goal_id for wish in WISHES[:5]]
    summary = run(ScriptedPolicy(MIXED), second, done=kept)
    assert (summary.stored, summary.finished) == (5, 7)
    assert second.trees == {n: tree for n, tree in first.trees.items() if tree.goal_id not in kept}


def test_trees_of_another_policy_or_attempt_have_other_names():
    shelf, other = Shelf(), Shelf()
    run(ScriptedPolicy(MIXED), shelf)
    run(ScriptedPolicy(MIXED, digest="another"), other)
    assert len(other.trees) == 12 and not set(other.trees) & set(shelf.trees)
    assert rollout_seed(1, 0) != rollout_seed(1, 1)


def test_a_search_that_is_tried_again_asks_the_same_and_gives_a_tree_of_another_name():
    first, again = Shelf(), Shelf()
    policy, same = ScriptedPolicy(MIXED), ScriptedPolicy(MIXED)
    run(policy, first)
    run(same, again, retry=1)
    assert not set(first.trees) & set(again.trees) and {tree.retry for tree in again.trees.values()} == {1}
    assert sorted(request.seed for request in policy.asked) == sorted(request.seed for request in same.asked)
    rewards = [{t.goal_id: (t.reward, len(t.nodes)) for t in shelf.trees.values()} for shelf in (first, again)]
    assert rewards[0] == rewards[1]


def test_conversations_are_opened_only_as_the_limit_has_room():
    class Counting(TinyUser):
        async def reply(self, conversation):
            if not conversation:
                open_now.append(len(open_now) + 1 - progress.steps)
            return await super().reply(conversation)

    class Steps(SilentProgress):
        steps = 0

        def advance(self, task: str, steps: int = 1) -> None:
            self.steps += steps

    open_now: list[int] = []
    progress = Steps()
    policy = ScriptedPolicy(lambda request: "hm", delay=0.002)
    wishes = [Wish(f"goal {n}") for n in range(60)]
    options = {"in_flight": 8, "beam_size": 4, "max_rounds": 4}
    run(policy, lambda batch: None, user=Counting(), wishes=wishes, progress=progress, **options)
    assert policy.most_in_flight == 8 and progress.steps == 60
    assert max(open_now) <= 10 and sum(open_now[20:]) / 40 < 8


def test_older_conversations_are_served_first():
    async def serve() -> list[str]:
        limiter = Limiter(1)
        old, new = limiter.lane(), limiter.lane()
        order: list[str] = []

        async def ask(name: str, lane) -> None:
            await LimitedPolicy(ScriptedPolicy(lambda r: "hm"), lane).complete(request)
            order.append(name)

        await limiter.acquire(0)
        asked = [asyncio.create_task(ask(n, lane)) for n, lane in (("new", new), ("old", old))]
        await asyncio.sleep(0)
        limiter.release()
        await asyncio.gather(*asked)
        return order

    policy = ScriptedPolicy(lambda r: "hm")
    grow(policy, max_rounds=1)
    request = policy.asked[0]
    assert asyncio.run(serve()) == ["old", "new"]


def test_a_cancelled_request_gives_its_place_back():
    async def cancel() -> bool:
        limiter = Limiter(1)
        await limiter.acquire(0)
        waiting = asyncio.create_task(limiter.acquire(0))
        handed = asyncio.create_task(limiter.acquire(1))
        await asyncio.sleep(0)
        limiter.release()
        waiting.cancel()
        await asyncio.wait_for(handed, 1)
        return waiting.cancelled() or waiting.done()

    assert asyncio.run(cancel())


def faulty(request: Request) -> str:
    if "Turn 0" in request.messages[1].content and chance(request).random() < 0.2:
        raise failing("endpoint")
    return MIXED(request)


def test_failures_are_counted_by_kind_and_the_run_goes_on():
    shelf = Shelf()
    summary = run(ScriptedPolicy(faulty), shelf, max_failed_share=1.0)
    assert summary.finished == 12
    assert summary.failed_branches["endpoint"] > 0
    assert sum(summary.failures.values()) == sum(t.failure is not None for t in shelf.trees.values())


def test_too_many_failures_stop_the_run_with_the_reasons_and_keep_what_finished():
    def answer(request: Request) -> str:
        raise failing("endpoint")

    shelf = Shelf()
    policy = ScriptedPolicy(answer)
    with pytest.raises(TooManyFailuresError, match=r"3 of 12 rollouts failed \(endpoint 3; the first: A scripted"):
        run(policy, shelf, max_failed_share=0.2, in_flight=1)
    assert len(shelf.trees) == 3


def test_users_that_fail_are_counted_as_failed_conversations():
    with pytest.raises(TooManyFailuresError, match="user"):
        run(ScriptedPolicy(MIXED), Shelf(), user=TinyUser(fails_at=0), max_failed_share=0.5)
    summary = run(ScriptedPolicy(MIXED), Shelf(), user=TinyUser(fails_at=0), max_failed_share=1.0)
    assert summary.failures == {"user": 12} and summary.failed_branches == {}


def test_a_spent_budget_stops_the_run_cleanly_with_what_it_has():
    shelf, policy = Shelf(), ScriptedPolicy(lambda r: "hm")
    summary = run(policy, shelf, in_flight=4, budget=Budget(max_tokens=10_000), max_failed_share=0.0)
    assert 0 < summary.finished < 12 and summary.finished == len(shelf.trees) and not summary.failures
    cut = {tree.goal_id for tree in shelf.trees.values() if tree.failure == "budget"}
    assert 0 < len(cut) == summary.cut < summary.finished
    assert 10_000 <= summary.usage.prompt_tokens + summary.usage.completion_tokens < 12_000
    again = Shelf()
    run(policy, again, done={tree.goal_id for tree in shelf.trees.values()} - cut)
    assert len(again.trees) == 12 - summary.finished + summary.cut
    assert all(tree.failure is None for tree in again.trees.values())


def test_a_spent_sum_of_money_stops_the_run_as_well():
    budget = Budget(max_cost=0.01)
    summary = run(ScriptedPolicy(lambda r: "hm"), Shelf(), in_flight=4, budget=budget)
    usage = summary.usage
    assert usage.cost == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)
    assert budget.cost == pytest.approx(usage.cost)
    assert summary.cut and 0.01 <= usage.cost < 0.012


def test_a_fault_of_the_program_stops_the_run_but_keeps_what_finished():
    def answer(request: Request) -> str:
        calls.append(request)
        if len(calls) > 60:
            raise ZeroDivisionError("a bug")
        return MIXED(request)

    calls: list[Request] = []
    shelf = Shelf()
    with pytest.raises(ZeroDivisionError):
        run(ScriptedPolicy(answer), shelf, in_flight=1)
    assert shelf.trees


def test_a_cancelled_run_keeps_what_finished_and_leaves_nothing_running():
    shelf = Shelf()

    async def interrupted() -> int:
        policy = ScriptedPolicy(MIXED, delay=0.01)
        task = asyncio.create_task(running(policy, shelf, in_flight=2))
        while len(policy.asked) < 60:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(interrupted()) == 1
    assert 0 < len(shelf.trees) < 12


def test_a_finished_tree_is_written_within_seconds_while_others_still_run():
    class SlowLater(ScriptedPolicy):
        async def complete(self, request: Request):
            if len(self.asked) > 20:
                await asyncio.sleep(0.1)
            return await super().complete(request)

    written: list[float] = []
    began = time.monotonic()
    answer = lambda r: "here" if after_call(r) else "GET a"  # noqa: E731
    wishes = [Wish("quick", "a"), *(Wish(f"slow {n}", "abz") for n in range(2))]
    run(SlowLater(answer), lambda batch: written.append(time.monotonic() - began), wishes=wishes, in_flight=2)
    assert written[0] < 5 and len(written) > 1


def test_the_writer_writes_in_batches_and_never_twice_at_once():
    busy = threading.Lock()
    batches: list[list[int]] = []

    def write(batch: list[int]) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.01)
        batches.append(batch)
        busy.release()

    async def many() -> None:
        async with Checkpointer(write, pause_s=0.02) as writer:
            for number in range(50):
                writer.add(number)
                await asyncio.sleep(0.002)

    asyncio.run(many())
    assert [number for batch in batches for number in batch] == list(range(50)) and 1 < len(batches) < 25


def test_what_failed_is_weighed_against_all_goals_however_few_are_owed():
    def answer(request: Request) -> str:
        raise failing("context_length")

    kept: list[Tree] = []
    run(ScriptedPolicy(answer), kept.extend, max_failed_share=1.0)
    done = [tree.goal_id for tree in kept[:10]]
    summary = run(ScriptedPolicy(answer), lambda batch: None, done=done, max_failed_share=0.2)
    assert (summary.owed, summary.failures) == (2, {"context_length": 2})


def test_a_write_that_fails_stops_the_run():
    def full(batch: list[Tree]) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run(ScriptedPolicy(MIXED), full)


def digest_of(settings: Settings) -> str:
    environment = environment_class(settings.environment.name)
    return rollout_digest(settings, environment.read(settings.environment, Path(), SilentProgress()))


def test_only_settings_that_change_trees_change_their_digest():
    plain = load_settings("quickstart")
    busier = plain.search.model_copy(update={"goals": 5, "in_flight": 3, "max_failed_share": 0.9})
    wider = plain.search.model_copy(update={"beam_size": 4})
    assert digest_of(plain) == digest_of(plain.model_copy(update={"search": busier}))
    assert digest_of(plain) != digest_of(plain.model_copy(update={"search": wider}))
    assert digest_of(plain) == digest_of(plain.model_copy(update={"seed": 7}))


def test_trees_under_other_words_of_the_agent_have_another_digest(monkeypatch):
    plain = load_settings("quickstart")
    before = digest_of(plain)
    monkeypatch.setattr("josh_pipeline.dialogue.agents.COMPACT_RULES", "Do as you like.")
    assert digest_of(plain) != before
