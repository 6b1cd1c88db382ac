"""The JOSH search (arXiv 2409.04617, section 3): one goal in, one tree out."""

import time
from dataclasses import dataclass
from functools import partial

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.errors import ErrorKind, RolloutError, UserError, at_fault, failing_as
from josh_pipeline.core.messages import Conversation, Message, visible
from josh_pipeline.core.policy import Completion, Policy, Sampling
from josh_pipeline.core.user import User, answered
from josh_pipeline.core.world import CallRecord, World, forked, judged
from josh_pipeline.dialogue.agents import ERROR_SENTENCE, AgentFormat
from josh_pipeline.dialogue.conversation import agent_action, agent_turn, hand_over
from josh_pipeline.search.concurrency import LimitedPolicy, Limiter, concurrently
from josh_pipeline.search.spending import Account, Budget, MeteredPolicy
from josh_pipeline.search.tree import End, Node, Told, Tree, Usage
from josh_pipeline.settings import SearchSettings


def rollout_id(policy_digest: str, goal_id: str, seed: int, settings_digest: str, retry: int = 0) -> str:
    """Return the id of the tree that a search with these inputs gives.

    Args:
        retry: how often the same search had failed before.
    """
    return content_id(policy_digest, goal_id, seed, settings_digest, retry)


async def search(
    goal_id: str,
    *,
    world: World,
    user: User,
    policy: Policy,
    agent: AgentFormat,
    settings: SearchSettings,
    settings_digest: str,
    seed: int,
    limiter: Limiter,
    account: Account,
    retry: int = 0,
) -> Tree:
    """Search one goal.

    What is asked of the policy depends on the arguments alone, never on the order in which answers
    come: with a policy that is a function of its request, equal arguments give equal trees.

    Args:
        goal_id: names the goal in the tree.
        world: the goal's world, nothing called yet; it is forked, never changed.
        user: the goal's user.
        policy: answers the agent's requests.
        agent: how the agent is prompted and read.
        settings: beam, rounds, sampling. ``step_by="action"`` branches before each request, not only
            before each turn; ``max_rounds`` then still counts the agent turns of a branch.
        settings_digest: names everything that the rollout depends on beside policy, goal and seed.
        seed: seeds of requests derive from it, the goal, the node's path and the request's index.
        limiter: shared by all conversations of the process.
        account: counts what this conversation costs; once its budget is spent no round begins.
        retry: how often this search had failed before: the tree's name has it, the requests do not.

    Returns:
        The tree. A failed branch is a node with ``failure``; a tree has one where the user never
        spoke, where all branches that were left failed in the same round, or where the budget cut it.

    Raises:
        UserError: the world has no milestones, so nothing could be earned, or does not say what the agent is told.
    """
    if not world.all_milestones:
        raise UserError(f"Goal {goal_id} has no milestones to search for: exclude it, or give it another role.")
    started = time.monotonic()
    with limiter.lane() as lane:
        seat = LimitedPolicy(MeteredPolicy(policy, account.agent), lane)
        with at_fault(f"The world of goal {goal_id}"):
            run = _Search(goal_id, world, user, seat, agent, settings, seed, account.budget)
        await run.run()
    return run.tree(settings_digest, retry, account.usage(time.monotonic() - started))


@dataclass(eq=False)
class _Branch:
    """A node while it grows; fields that ``Node`` has too are explained there.

    Attributes:
        world: the state after the node's calls.
        before: the conversation that the node continues.
        turns: agent turns completed from the root to here.
        children: how many it has by now.
        open_requests: requests already made in a turn that is under way; 0 once the agent spoke.
    """

    path: tuple[int, ...]
    parent: "_Branch | None"
    round: int
    world: World
    before: Conversation = ()
    turns: int = 0
    children: int = 0
    open_requests: int = 0
    messages: Conversation = ()
    completions: tuple[Completion, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    earned: tuple[int, ...] = ()
    golden: bool = False
    successful: bool = False
    error_turn: bool = False
    failure: ErrorKind | None = None
    failure_message: str | None = None
    end: End | None = None
    told: Told | None = None

    @property
    def conversation(self) -> Conversation:
        return self.before + self.messages

    def fail(self, fault: RolloutError) -> None:
        self.failure, self.failure_message, self.end = fault.kind, fault.message, "failed"

    def child(self, number: int) -> "_Branch":
        self.children += 1
        return _Branch(
            path=(*self.path, self.children - 1),
            parent=self,
            round=number,
            world=forked(self.world),
            before=self.conversation,
            turns=self.turns,
            open_requests=self.open_requests,
        )

    def lineage(self) -> "tuple[_Branch, ...]":
        return (self, *self.parent.lineage()) if self.parent else (self,)


class _Search:
    """The state of one search."""

    def __init__(
        self,
        goal_id: str,
        world: World,
        user: User,
        policy: LimitedPolicy,
        agent: AgentFormat,
        settings: SearchSettings,
        seed: int,
        budget: Budget,
    ) -> None:
        self.goal_id = goal_id
        self.world = world
        self.user = user
        self.policy = policy
        self.agent = agent
        self.settings = settings
        self.seed = seed
        self.budget = budget
        self.restarts = 0
        self.collected: frozenset[int] = frozenset()
        self.rounds = 0
        self.failure: ErrorKind | None = None
        self.failure_message: str | None = None
        self.told: Told = (agent.system(world).content, agent.schemas(world))
        self.golden: _Branch | None = None
        self.outcome = 0.0
        root = _Branch(path=(), parent=None, round=0, world=world.fork())
        self.branches = [root]

    async def run(self) -> None:
        """Play rounds until the goal is solved, no leaf lives, or rounds or budget are spent."""
        live = self.branches
        await self.user_step(live[0])
        while live := self.survivors(live) or self.restart():
            self.rounds += 1
            live = await self.agents_step(self.expand(live))
            self.branches = self.branches + live
            live = self.reward(live)
            await concurrently(self.user_step(leaf) for leaf in live if not (leaf.end or leaf.open_requests))
        if self.golden is not None:
            for node in self.golden.lineage():
                node.golden = True
            self.judge(self.golden)

    def survivors(self, leaves: list[_Branch]) -> list[_Branch]:
        """End the leaves that cannot go on, and return the others."""
        live = [leaf for leaf in leaves if leaf.end is None]
        if not live and all(leaf.failure for leaf in leaves):
            self.failure, self.failure_message = leaves[0].failure, leaves[0].failure_message
        if live and self.budget.spent:
            self.failure, self.failure_message = "budget", f"The budget is spent: {self.budget.sentence}."
        for leaf in live:
            if self.budget.spent:
                leaf.end = "budget_spent"
            elif leaf.turns >= self.settings.max_rounds:
                leaf.end = "rounds_spent"
        return [leaf for leaf in live if leaf.end is None]

    def restart(self) -> list[_Branch]:
        """Return where an unsolved search that has no live leaf begins again: its last collapse, else the root."""
        origin = self.golden or self.branches[0]
        if origin.end or self.failure or self.budget.spent or self.restarts >= self.settings.restarts:
            return []
        self.restarts += 1
        return [origin]

    def expand(self, live: list[_Branch]) -> list[_Branch]:
        """Return the nodes of the next round, in tree order."""
        width = max(1, min(self.settings.children, self.settings.beam_size // len(live)))
        return [leaf.child(self.rounds) for leaf in live for _ in range(width)]

    async def agents_step(self, leaves: list[_Branch]) -> list[_Branch]:
        """Let the agent speak in every leaf; returns them in tree order, with those that were drawn for twins."""
        fresh = leaves
        for redraws in range(self.settings.redraws, -1, -1):
            await concurrently(self.agent_step(leaf) for leaf in fresh)
            twins = self.end_twins(leaves) if self.settings.merge_twins else []
            if not redraws or any(leaf.earned for leaf in leaves):
                break
            fresh = [twin.parent.child(self.rounds) for twin in twins if twin.parent]
            leaves = sorted(leaves + fresh, key=lambda leaf: leaf.path)
        return leaves

    def end_twins(self, leaves: list[_Branch]) -> list[_Branch]:
        """End and return the live leaves that did and said to the letter what an elder sibling did."""
        elders: list[_Branch] = []
        twins: list[_Branch] = []
        for leaf in leaves:
            if leaf.end is None:
                same = any(leaf.parent is elder.parent and leaf.messages == elder.messages for elder in elders)
                (twins if same else elders).append(leaf)
        for twin in twins:
            twin.end = "merged"
        return twins

    async def agent_step(self, leaf: _Branch) -> None:
        """Let the agent take its turn, or its next action; a failure or a void world ends the leaf.

        A leaf that ends so earns nothing.
        """
        try:
            with failing_as("world", "What the agent is told"):
                told: Told = (self.agent.system(leaf.world).content, self.agent.schemas(leaf.world))
            leaf.told = None if told == self.told else told
            if self.settings.step_by == "turn":
                await self.take_turn(leaf)
            else:
                await self.take_action(leaf)
            with failing_as("world", "What was earned"):
                void, earned = leaf.world.void, leaf.world.milestones()
        except RolloutError as fault:
            leaf.fail(fault)
            return
        if void:
            leaf.end = "void"
        else:
            leaf.earned = tuple(sorted(earned - self.collected))

    def sampling(self, leaf: _Branch) -> Sampling:
        """Return how a leaf is sampled: hotter by ``temperature_step`` for each elder sibling."""
        rules = self.settings
        heat = rules.temperature_step * leaf.path[-1]
        return Sampling(
            temperature=rules.temperature + heat, max_tokens=rules.max_tokens, top_p=rules.top_p, top_k=rules.top_k
        )

    def request_seed(self, leaf: _Branch, index: int) -> int:
        return derived_seed(self.seed, self.goal_id, leaf.path, index)

    async def take_turn(self, leaf: _Branch) -> None:
        turn = await agent_turn(
            self.policy,
            self.agent,
            leaf.world,
            leaf.before,
            sampling=self.sampling(leaf),
            max_requests=self.settings.max_requests,
            seed=partial(self.request_seed, leaf),
        )
        leaf.messages, leaf.completions, leaf.calls = turn.messages, turn.completions, turn.calls
        leaf.error_turn = turn.error_turn
        leaf.turns += 1

    async def take_action(self, leaf: _Branch) -> None:
        action = await agent_action(
            self.policy,
            self.agent,
            leaf.world,
            leaf.before,
            sampling=self.sampling(leaf),
            seed=self.request_seed(leaf, 0),
        )
        messages, made = action.messages, leaf.open_requests + 1
        spent = not action.spoke and made >= self.settings.max_requests
        if spent:
            hand_over(leaf.world)
            messages = (*messages, Message("assistant", ERROR_SENTENCE, error=True))
        leaf.messages, leaf.completions, leaf.calls = messages, (action.completion,), action.calls
        leaf.error_turn = spent
        ended = action.spoke or spent
        leaf.open_requests = 0 if ended else made
        leaf.turns += ended

    def reward(self, leaves: list[_Branch]) -> list[_Branch]:
        """Mark and collapse where leaves earned something in this round; return those that are left."""
        earners = [leaf for leaf in leaves if leaf.earned]
        if not earners:
            return leaves
        self.golden = golden = earners[0]
        for earner in earners:
            for node in earner.lineage():
                node.successful = True
        self.collected |= frozenset(golden.earned)
        solved = self.collected >= self.world.all_milestones
        together = self.settings.collapse == "all" and not solved
        kept = [leaf for leaf in earners if leaf is golden or (together and leaf.earned == golden.earned)]
        for leaf in leaves:
            if leaf not in kept and leaf.end is None:
                leaf.end = "pruned"
        if solved:
            golden.end = "solved"
        return kept

    def judge(self, golden: _Branch) -> None:
        """Let the world say what the golden conversation was worth."""
        try:
            self.outcome = judged(golden.world, golden.conversation)
        except RolloutError as fault:
            self.failure, self.failure_message = fault.kind, fault.message

    async def user_step(self, leaf: _Branch) -> None:
        """Let the user answer; a failure or a farewell ends the leaf."""
        try:
            reply = await answered(self.user, visible(leaf.conversation))
        except RolloutError as fault:
            leaf.fail(fault)
            return
        if reply.text or not reply.done:
            leaf.messages = (*leaf.messages, Message("user", reply.text))
        if reply.done:
            leaf.end = "user_done"

    def tree(self, settings_digest: str, retry: int, usage: Usage) -> Tree:
        """Freeze what has grown."""
        name = rollout_id(self.policy.digest, self.goal_id, self.seed, settings_digest, retry)
        ids = {branch: content_id(name, branch.path) for branch in self.branches}
        nodes = tuple(
            Node(
                node_id=ids[branch],
                parent_id=ids[branch.parent] if branch.parent else None,
                path=branch.path,
                round=branch.round,
                messages=branch.messages,
                completions=branch.completions,
                calls=branch.calls,
                earned=branch.earned,
                golden=branch.golden,
                successful=branch.successful,
                error_turn=branch.error_turn,
                failure=branch.failure,
                failure_message=branch.failure_message,
                end=branch.end,
                told=branch.told,
            )
            for branch in self.branches
        )
        return Tree(
            rollout_id=name,
            goal_id=self.goal_id,
            policy_digest=self.policy.digest,
            seed=self.seed,
            settings_digest=settings_digest,
            system=self.told[0],
            tools=self.told[1],
            nodes=nodes,
            earned=tuple(sorted(self.collected)),
            reward=self.outcome,
            rounds=self.rounds,
            failure=self.failure,
            failure_message=self.failure_message,
            usage=usage,
            retry=retry,
        )
