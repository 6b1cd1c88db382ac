"""What conversations cost: tokens, requests and money, counted for each, and the budget of all."""

from dataclasses import dataclass, field

from josh_pipeline.core.errors import RolloutError
from josh_pipeline.core.policy import Completion, Policy, Request
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import Prices


@dataclass
class Budget:
    """What may be spent, and what was; tokens are those of prompts and completions.

    Attributes:
        max_tokens, max_cost: no round begins once one of them is reached; None is no limit.
        tokens, cost: spent so far, by agents and users together.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    tokens: int = 0
    cost: float = 0.0

    @property
    def spent(self) -> bool:
        """True once a limit is reached."""
        return (self.max_tokens is not None and self.tokens >= self.max_tokens) or (
            self.max_cost is not None and self.cost >= self.max_cost
        )

    @property
    def sentence(self) -> str:
        """What was spent, for people."""
        return f"{self.tokens:,} tokens and {self.cost:.2f} in money were spent"


@dataclass
class Meter:
    """Counts what one side of one conversation asks of its model.

    Attributes:
        requests: completions asked for, failed ones included.
        failed_requests: those that gave none.
        prompt_tokens, cached_tokens, completion_tokens: sums over the completions.
        cost: of them, by ``prices``.
    """

    budget: Budget
    prices: Prices
    requests: int = 0
    failed_requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def add(self, completion: Completion) -> None:
        """Count a completion, here and in the budget."""
        cost = self.prices.of(completion.prompt_tokens, completion.cached_tokens, completion.completion_tokens)
        self.prompt_tokens += completion.prompt_tokens
        self.cached_tokens += completion.cached_tokens
        self.completion_tokens += completion.completion_tokens
        self.cost += cost
        self.budget.tokens += completion.prompt_tokens + completion.completion_tokens
        self.budget.cost += cost


@dataclass(frozen=True)
class MeteredPolicy:
    """A policy whose use is counted."""

    policy: Policy
    meter: Meter

    @property
    def digest(self) -> str:
        """The wrapped policy's digest."""
        return self.policy.digest

    async def complete(self, request: Request) -> Completion:
        """Draw one completion and count it; see ``Policy.complete``."""
        self.meter.requests += 1
        try:
            completion = await self.policy.complete(request)
        except RolloutError:
            self.meter.failed_requests += 1
            raise
        self.meter.add(completion)
        return completion

    async def close(self) -> None:
        """Do nothing: whoever made the wrapped policy closes it."""


@dataclass(frozen=True)
class Account:
    """One conversation's spending: the agent's and, where it is a model, the user's."""

    budget: Budget
    agent: Meter
    user: Meter

    def usage(self, seconds: float) -> Usage:
        """Return the sums; ``seconds`` is the conversation's wall time."""
        return Usage(
            requests=self.agent.requests,
            failed_requests=self.agent.failed_requests,
            prompt_tokens=self.agent.prompt_tokens,
            cached_tokens=self.agent.cached_tokens,
            completion_tokens=self.agent.completion_tokens,
            user_requests=self.user.requests,
            user_failed_requests=self.user.failed_requests,
            user_prompt_tokens=self.user.prompt_tokens,
            user_completion_tokens=self.user.completion_tokens,
            cost=self.agent.cost + self.user.cost,
            seconds=seconds,
        )


@dataclass(frozen=True)
class Ledger:
    """Opens accounts on one budget.

    Attributes:
        agent_prices, user_prices: of the two models.
    """

    budget: Budget = field(default_factory=Budget)
    agent_prices: Prices = field(default_factory=Prices)
    user_prices: Prices = field(default_factory=Prices)

    def account(self) -> Account:
        """Open an account for one conversation."""
        return Account(self.budget, Meter(self.budget, self.agent_prices), Meter(self.budget, self.user_prices))
