"""A scripted agent that understands the agenda user perfectly, and is as careless as it is told to be.

It answers requests like any policy, in the compact format, so that it goes through the same machinery.
Careful, it measures how many goals the user lets anybody solve; careless, it writes demonstrations.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.messages import Conversation, visible
from josh_pipeline.core.policy import Completion, Request
from josh_pipeline.environments.toolwoz.agenda import AgendaUser, Standing
from josh_pipeline.environments.toolwoz.goal import ID_KEY, Goal
from josh_pipeline.environments.toolwoz.wording import REFERENCE_LETTERS, departing, noun_phrase, with_article

NO_MATCH = "Sorry, nothing matches that."
NOT_BOOKED = "Sorry, that booking is not available."
QUESTIONS: Mapping[str, str] = {
    "people": "For how many people?",
    "day": "For which day?",
    "time": "At what time?",
    "stay": "For how many nights?",
}


class OracleAgent:
    """Knows the goal; uses of it only what the user has said so far.

    Implements ``josh_pipeline.core.policy.Policy``. A pure function of (goal, user, carelessness,
    seed, messages).
    """

    digest = content_id("oracle")

    def __init__(self, goal: Goal, user: AgendaUser, carelessness: Carelessness, seed: int) -> None:
        self._goal = goal
        self._user = user
        self._careless = carelessness
        self._seed = derived_seed("oracle", goal.goal_id, seed)

    async def complete(self, request: Request) -> Completion:
        """Write the next call or sentence in the compact format."""
        return Completion(self._write(request.messages))

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, messages: Conversation) -> str:
        speeches = [m.content for m in visible(messages) if m.role == "assistant"]
        now = self._user.standing(speeches)
        plan = self._user.plan.domains[now.domain]
        rng = Random(derived_seed("turn", self._seed, len(speeches)))
        if messages[-1].role == "tool":
            result = json.loads(messages[-1].content)
            if "matches" in result:
                return self._offer(plan.domain, result, self._drops(now, speeches), rng)
            return confirmation(result["reference"]) if result.get("success") else NOT_BOOKED
        if not now.waiting:
            return _call(f"search_{plan.domain}", self._constraints(now, speeches))
        missing = [slot for slot in plan.booking if slot not in now.booking]
        if missing:
            return QUESTIONS[missing[0]]
        if self._draw("claim", now.domain) < self._careless.claimed:
            return confirmation("".join(rng.choices(REFERENCE_LETTERS, k=8)))
        key = ID_KEY[plan.domain]
        return _call(f"book_{plan.domain}", {**now.booking, key: _offered(messages, key)})

    def _draw(self, *what: Any) -> float:
        return Random(derived_seed(self._seed, *what)).random()

    def _constraints(self, now: Standing, speeches: list[str]) -> dict[str, str]:
        told = dict(now.told)
        if self._drops(now, speeches):
            told.pop(Random(derived_seed(self._seed, "dropped", len(speeches))).choice(list(told)))
        return told

    def _drops(self, now: Standing, speeches: list[str]) -> bool:
        return len(now.told) > 1 and self._draw("drop", len(speeches)) < self._careless.dropped

    def _offer(self, domain: str, result: Mapping[str, Any], glossed: bool, rng: Random) -> str:
        if not result["matches"] or len(result) == 1 or rng.random() < self._careless.denied:
            return NO_MATCH
        return f"How about {result[ID_KEY[domain]]}?" if glossed else offer(domain, result)


def offer(domain: str, row: Mapping[str, Any]) -> str:
    """Say what was found, with the facts that the user can check."""
    if domain == "train":
        return departing(row)
    if domain == "attraction":
        return f"{row['name']} is {noun_phrase(domain, {key: row[key] for key in ('type', 'area')})}."
    kind = {
        "restaurant": f"{row.get('pricerange')} {row.get('food')} restaurant",
        "hotel": f"{row.get('pricerange')} {row.get('stars')} star {row.get('type')}",
    }[domain]
    return f"{row['name']} is {with_article(kind)} in the {row['area']}."


def confirmation(reference: str) -> str:
    """Say that a booking was made."""
    return f"It is booked, the reference is {reference}."


def _call(tool: str, parameters: Mapping[str, str]) -> str:
    return json.dumps({"name": tool, "parameters": parameters}, ensure_ascii=False)


def _offered(messages: Conversation, key: str) -> str:
    """Return the id in the latest search result."""
    results = (json.loads(m.content) for m in reversed(messages) if m.role == "tool")
    return str(next((result[key] for result in results if key in result), ""))
