"""The agenda user: no model, a pure function of (goal, seed, visible conversation).

Its state is recomputed from the conversation with every reply, so forked branches need no user state.
It sees what the agent spoke and knows its own goal; calls, results and rewards it never sees. It does
not ask for the facts that a goal requests: no reward covers them, and each costs the agent a turn.
"""

from collections.abc import Iterable
from random import Random

from josh_pipeline.core.ids import derived_seed
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.user import UserReply
from josh_pipeline.environments.toolwoz import wording
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.hearing import Heard, contradictions, hear
from josh_pipeline.environments.toolwoz.plan import HELD_SHARE, DomainPlan, Plan, Progress, plan_goal

__all__ = ["HELD_SHARE", "PATIENCE", "AgendaUser"]

PATIENCE = 3
"""The user gives up when it is stuck this many times."""


class AgendaUser:
    """Reveals a slot or two a turn, answers, corrects, asks for the booking, ends when done."""

    def __init__(self, goal: Goal, seed: int, max_turns: int) -> None:
        self._seed = derived_seed("agenda", goal.goal_id, seed)
        self._max_turns = max_turns
        self.plan: Plan = plan_goal(goal, self._seed, max_turns)

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        speeches = [m.content for m in conversation if m.role == "assistant"]
        if len(speeches) >= self._max_turns:
            return UserReply(text="", done=True)
        progress = self.progress(speeches)
        return UserReply(text=progress.text, done=progress.done)

    def progress(self, speeches: Iterable[str]) -> Progress:
        """Return where the user stands after its answer to the last of the agent's speeches."""
        progress = Progress()
        self._open(progress, self._rng(0))
        for turn, speech in enumerate(speeches, start=1):
            if progress.done:
                break
            self._answer(progress, speech, self._rng(turn))
        return progress

    def _rng(self, turn: int) -> Random:
        return Random(derived_seed("turn", self._seed, turn))

    def _task(self, progress: Progress) -> DomainPlan:
        return self.plan.domains[progress.domain]

    def _open(self, progress: Progress, rng: Random) -> None:
        task = self._task(progress)
        progress.told = dict(_take(task.first_wishes, {}, self.plan.opening_size))
        progress.booking, progress.waiting = {}, False
        progress.failing, progress.failing_booking = bool(task.changes), bool(task.booking_changes)
        progress.act = "open"
        progress.text = wording.opening(rng, task.domain, progress.told, first=progress.domain == 0)

    def _answer(self, progress: Progress, speech: str, rng: Random) -> None:
        heard = hear(speech, progress.waiting)
        if progress.waiting:
            self._answer_booking(progress, heard, rng)
        else:
            self._answer_search(progress, heard, speech, rng)
        if progress.stuck >= PATIENCE:
            progress.act, progress.done = "give_up", True
            progress.text = "Never mind, goodbye."

    def _answer_search(self, progress: Progress, heard: Heard, speech: str, rng: Random) -> None:
        task = self._task(progress)
        wishes = task.first_wishes if progress.failing else task.wishes
        untold = {slot: value for slot, value in wishes.items() if slot not in progress.told}
        changes_told = progress.failing and all(slot in progress.told for slot in task.changes)
        wrong = contradictions(speech, progress.told) if heard.kind == "offer" else ()
        if changes_told and (
            heard.kind == "no_match" or (heard.kind == "offer" and not untold and not wrong)
        ):
            progress.told |= task.changes
            progress.failing = False
            progress.act, progress.text = "change", wording.changing(rng, task.changes)
        elif wrong:
            again = {slot: progress.told[slot] for slot in wrong}
            progress.act, progress.text = "correct", wording.correcting(rng, again)
            progress.stuck += 1
        elif untold:
            asked = {s: v for s, v in untold.items() if s in heard.asked and heard.kind == "question"}
            new = dict(_take(untold, asked, self.plan.pace))
            progress.told |= new
            progress.act = "inform"
            progress.text = wording.answering(new) if asked else wording.informing(rng, new)
        elif heard.kind == "offer":
            self._accept(progress, rng)
        else:
            progress.act = "insist"
            progress.text = wording.insisting(rng, task.domain, progress.told)
            progress.stuck += 1

    def _accept(self, progress: Progress, rng: Random) -> None:
        task = self._task(progress)
        if not task.booking:
            self._next_domain(progress, rng)
            return
        details = task.first_booking if progress.failing_booking else task.booking
        progress.booking = {slot: value for slot, value in details.items() if slot != task.held}
        progress.waiting = True
        progress.act = "book"
        progress.text = wording.booking(rng, task.domain, progress.booking, again=False)

    def _answer_booking(self, progress: Progress, heard: Heard, rng: Random) -> None:
        task = self._task(progress)
        missing = {slot: v for slot, v in task.booking.items() if slot not in progress.booking}
        if heard.kind == "booked":
            self._next_domain(progress, rng)
        elif missing and (heard.kind == "not_booked" or set(missing) & set(heard.asked)):
            details = task.first_booking if progress.failing_booking else task.booking
            new = {slot: details[slot] for slot in missing}
            progress.booking |= new
            progress.act, progress.text = "detail", wording.detailing(task.domain, new)
        elif progress.failing_booking and heard.kind == "not_booked":
            progress.booking |= task.booking_changes
            progress.failing_booking = False
            progress.act, progress.text = "rebook", wording.changing(rng, task.booking_changes)
        else:
            asked = {slot: v for slot, v in progress.booking.items() if slot in heard.asked}
            progress.act = "insist_booking"
            progress.text = (
                wording.detailing(task.domain, asked)
                if asked
                else wording.booking(rng, task.domain, progress.booking, again=True)
            )
            progress.stuck += 1

    def _next_domain(self, progress: Progress, rng: Random) -> None:
        progress.domain += 1
        if progress.domain < len(self.plan.domains):
            self._open(progress, rng)
            return
        progress.act, progress.done, progress.waiting = "bye", True, False
        progress.text = rng.choice(("Thank you, goodbye.", "That is all, thanks.", "Great, thanks. Bye."))


def _take(untold: dict[str, str], asked: dict[str, str], size: int) -> Iterable[tuple[str, str]]:
    """Choose what to tell next: what was asked, else the first ones; the two ends of a journey together."""
    chosen = dict(asked)
    for slot, value in untold.items():
        ends = {"departure", "destination"}
        if len(chosen) < size or (slot in ends and ends & set(chosen)):
            chosen[slot] = value
    return [(slot, untold[slot]) for slot in untold if slot in chosen]
