"""Whether what a step wrote can be trusted: a verdict each, with the numbers that it rests on."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from josh_pipeline.core.ids import canonical_json
from josh_pipeline.environments.toolwoz.goal import Semantics
from josh_pipeline.harvest.checks import MOST_LOPSIDED
from josh_pipeline.stages.ceiling import ceiling_on
from josh_pipeline.stages.goals import ROLES, played_kind
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.scopes import corpus_scope, goals_scope
from josh_pipeline.stages.selection import evaluation_goals
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Generation

LEAST_SOLVABLE: Mapping[Semantics, float] = {"audited": 1.0, "paper": 0.9}
"""Below this share the goals say more about the corpus than about a policy. An oracle solves all audited
goals that are kept, and 95 % of the paper's in MultiWOZ 2.1 (docs/toolwoz.md)."""
LEAST_CEILING = 0.99
"""Below this share of goals that a perfect agent solves, the simulated user is what is measured."""


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        sentence: the finding for people.
        numbers: what it rests on.
    """

    passed: bool
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def corpus_complete(step: Step) -> Verdict:
    """Hold the stored dialogues and entities against the counts that were written with them."""
    found = step.warehouse.rows(
        "SELECT c.dialogues AS said, c.entities AS said_entities, "
        "(SELECT count(*) FROM current_dialogues d WHERE d.scope = c.scope) AS dialogues, "
        "(SELECT count(DISTINCT dialogue_id) FROM current_dialogues d WHERE d.scope = c.scope) AS names, "
        "(SELECT count(*) FROM current_entities e WHERE e.scope = c.scope) AS entities, "
        "(SELECT count(DISTINCT domain) FROM current_entities e WHERE e.scope = c.scope) AS domains, "
        "(SELECT count(DISTINCT corpus_digest) FROM current_dialogues d WHERE d.scope = c.scope) AS digests "
        "FROM current_corpora c WHERE c.scope = ?",
        [corpus_scope(step.settings.corpus)],
    )[0]
    numbers = {name: found[name] for name in ("dialogues", "entities", "domains")}
    faults = []
    if found["dialogues"] != found["said"] or not found["dialogues"]:
        faults.append(f"{found['dialogues']} dialogues are stored, {found['said']} were read")
    if found["entities"] != found["said_entities"] or not found["entities"]:
        faults.append(f"{found['entities']} entities are stored, {found['said_entities']} were read")
    if found["names"] != found["dialogues"]:
        faults.append(f"{found['dialogues'] - found['names']} dialogues share the id of another")
    if found["digests"] > 1:
        faults.append("the dialogues are of several corpora")
    whole = f"{found['dialogues']} dialogues and {found['entities']} entities of {found['domains']} domains."
    return Verdict(not faults, f"{'; '.join(faults)}." if faults else whole, numbers)


def corpus_unchanged(step: Step, generation: Generation) -> Verdict:
    """Hold the corpus against what the same source gave the last time it was read."""
    digests = step.warehouse.rows(
        "SELECT generation, corpus_digest FROM corpora WHERE scope = ? AND generation <= ? "
        "ORDER BY generation DESC LIMIT 2",
        [generation.scope, generation.number],
    )
    numbers = {"digest": digests[0]["corpus_digest"], "times read": generation.number}
    if len(digests) == 1:
        return Verdict(True, "The source was read for the first time.", numbers)
    numbers["digest before"] = digests[1]["corpus_digest"]
    if digests[0]["corpus_digest"] == digests[1]["corpus_digest"]:
        return Verdict(True, "The source holds what it held before.", numbers)
    return Verdict(
        False,
        "The source has changed since it was last read: goals and scores of before are of other dialogues.",
        numbers,
    )


def goals_solvable(step: Step) -> Verdict:
    """Count, for each role, the goals that an oracle solves by making the ground-truth calls."""
    kind = played_kind(step)
    found = step.warehouse.rows(
        "SELECT role, count(*) AS goals, count(*) FILTER (solvable) AS solvable "
        "FROM current_goals JOIN current_solvability USING (scope, goal_id) "
        "WHERE scope = ? AND kind = ? AND excluded IS NULL GROUP BY role",
        [goals_scope(step.settings), kind],
    )
    counts = {row["role"]: (row["solvable"], row["goals"]) for row in found}
    shares = {role: solved / goals for role, (solved, goals) in counts.items()}
    words = ", ".join(f"{role} {counts[role][0]} of {counts[role][1]}" for role in ROLES if role in counts)
    least = LEAST_SOLVABLE[step.settings.goals.semantics]
    passed = len(shares) == len(ROLES) and min(shares.values()) >= least
    advice = "" if passed else f" Under {least:.0%} somewhere: see josh solvability for the causes."
    return Verdict(
        passed,
        f"An oracle solves, of the {kind} goals: {words}. The unsolvable are not rolled out.{advice}",
        {f"solvable share, {role}": round(share, 4) for role, share in shares.items()},
    )


def ceiling_high(step: Step) -> Verdict:
    """Let a careful script play the goals of the evaluation: what the rule-based user lets anybody reach."""
    settings = step.settings
    if settings.user.kind != "agenda":
        return Verdict(True, f"The {settings.user.kind} user has no ceiling that a script could measure.")
    goals = evaluation_goals(
        step.warehouse, goals_scope(settings), played_kind(step), "test", settings.evaluation.test_goals
    )
    found = ceiling_on(step.warehouse, corpus_scope(settings.corpus), goals, settings)
    if found is None:
        return Verdict(False, "There is no test goal that the ceiling could be measured on.")
    passed = found.share >= LEAST_CEILING
    advice = "" if passed else " Scores under this user say little about an agent."
    return Verdict(
        passed,
        f"A perfect agent solves {found.full_reward} of {found.n} test goals with this user.{advice}",
        {"ceiling": round(found.share, 4), "goals": found.n, "goals nobody solves": len(found.failures)},
    )


def trees_rewarded(step: Step, iteration: str) -> Verdict:
    """Count the trees that earned something, and those that failed as a whole."""
    found = step.warehouse.rows(
        "SELECT count(*) AS trees, count(*) FILTER (reward > 0) AS rewarded, "
        "count(failure) FILTER (failure <> 'budget') AS failed "
        "FROM current_trees WHERE iteration = ?",
        [iteration],
    )[0]
    failed = found["failed"] > step.settings.search.max_failed_share * found["trees"]
    passed = bool(found["rewarded"]) and not failed
    return Verdict(
        passed,
        f"{found['rewarded']} of {found['trees']} trees earned a reward, {found['failed']} failed."
        + ("" if found["rewarded"] else " Nothing can be learnt from them."),
        dict(found),
    )


def labels_balanced(step: Step, iteration: str) -> Verdict:
    """Weigh desirable against undesirable rows; conversations and pairs have no sides to weigh."""
    found = step.warehouse.rows(
        "SELECT method, count(*) AS rows, count(*) FILTER (desirable) AS desirable "
        "FROM current_preference_rows WHERE iteration = ? GROUP BY method",
        [iteration],
    )
    if not found:
        return Verdict(False, "There are no rows.", {"rows": 0})
    rows, good = found[0]["rows"], found[0]["desirable"]
    if found[0]["method"] != "kto":
        return Verdict(True, f"{rows} rows for {found[0]['method']}, which has no sides.", {"rows": rows})
    bad = rows - good
    passed = min(good, bad) * MOST_LOPSIDED >= max(good, bad)
    advice = "" if passed else " Weigh the rarer side with training.desirable_weight or undesirable_weight."
    return Verdict(
        passed,
        f"{good} desirable and {bad} undesirable rows.{advice}",
        {"desirable": good, "undesirable": bad, "desirable share": round(good / rows, 4)},
    )


LEAKS = (
    "SELECT count(DISTINCT r.row_id) AS rows, "
    "count(DISTINCT r.row_id) FILTER (g.role IS DISTINCT FROM 'train') AS of_goals, "
    "count(DISTINCT r.row_id) FILTER (h.dialogue_id IS NOT NULL) AS of_dialogues "
    "FROM current_preference_rows r "
    "LEFT JOIN current_goals g ON g.scope = $scope AND g.goal_id = r.goal_id "
    "LEFT JOIN (SELECT DISTINCT dialogue_id FROM current_goals WHERE scope = $scope AND role <> 'train') h "
    "ON h.dialogue_id = g.dialogue_id WHERE r.iteration = $iteration"
)


def nothing_leaks(step: Step, iteration: str) -> Verdict:
    """Look for training rows whose goal or dialogue is held out for evaluation."""
    scope = policy_of(step.warehouse, iteration).goals_scope
    found = step.warehouse.rows(LEAKS, {"scope": scope, "iteration": iteration})[0]
    leaked = max(found["of_goals"], found["of_dialogues"])
    return Verdict(
        not leaked,
        f"{leaked} of {found['rows']} rows come from goals or dialogues that are held out for evaluation."
        if leaked
        else f"None of {found['rows']} rows comes from a goal or a dialogue that is held out.",
        {"rows": found["rows"], "of held-out goals": found["of_goals"],
         "of held-out dialogues": found["of_dialogues"]},
    )  # fmt: skip


def calls_unseen(step: Step, iteration: str) -> Verdict:
    """Count training rows whose goal wants exactly the calls of a goal that is evaluated.

    That is no leak (another dialogue, another wording), but such a goal can be solved by heart.
    """
    policy = policy_of(step.warehouse, iteration)
    goals = step.warehouse.rows(
        "SELECT goal_id, calls FROM current_goals WHERE scope = ?", [policy.goals_scope]
    )
    calls = {row["goal_id"]: wanted(row["calls"]) for row in goals}
    numbers = {"val": step.settings.evaluation.val_goals, "test": step.settings.evaluation.test_goals}
    evaluated = {
        calls[goal.goal_id]
        for role in ("val", "test")
        for goal in evaluation_goals(
            step.warehouse, policy.goals_scope, played_kind(step), role, numbers[role]
        )
    }
    rows = Counter(
        row["goal_id"]
        for row in step.warehouse.rows(
            "SELECT goal_id FROM current_preference_rows WHERE iteration = ?", [iteration]
        )
    )
    alike = sum(number for goal, number in rows.items() if calls.get(goal) in evaluated)
    learnt = {calls[goal] for goal in rows if goal in calls}
    return Verdict(
        not alike,
        f"{alike} of {rows.total()} rows come from goals that want exactly the calls of an evaluated goal; "
        f"{len(learnt & evaluated)} of {len(evaluated)} evaluated sets of calls were learnt from.",
        {"rows": rows.total(), "rows with evaluated calls": alike,
         "evaluated sets of calls": len(evaluated), "of them learnt from": len(learnt & evaluated)},
    )  # fmt: skip


def wanted(calls: str) -> str:
    """Return the ground-truth calls of a goal as text, whatever their order."""
    return canonical_json(
        sorted(canonical_json([call["tool"], call["parameters"]]) for call in json.loads(calls))
    )
