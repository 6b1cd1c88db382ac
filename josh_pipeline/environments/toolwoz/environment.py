"""ToolWOZ as an environment: what the rest of the pipeline sees of this folder."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Carelessness, Environment, EnvironmentSettings, Snapshot, Source, WantedCall
from josh_pipeline.core.errors import UserError, quoted
from josh_pipeline.core.messages import Conversation, visible
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User
from josh_pipeline.core.world import CallRecord, World, judged
from josh_pipeline.environments.toolwoz.agenda import GAVE_UP, USER_VERSION, AgendaUser
from josh_pipeline.environments.toolwoz.corpus import Corpus, Dialogue
from josh_pipeline.environments.toolwoz.goal import DOMAINS, Goal
from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals
from josh_pipeline.environments.toolwoz.hearing import hear
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.sample import SAMPLE_SOURCE, sample_corpus, sample_digest
from josh_pipeline.environments.toolwoz.script import OracleAgent
from josh_pipeline.environments.toolwoz.settings import ToolWozSettings
from josh_pipeline.environments.toolwoz.tools import PARAMETERS, TOOLS
from josh_pipeline.environments.toolwoz.world import COMPACT_FIELDS, INSTRUCTIONS, ToolWozWorld

TEST_450 = 450
"""Test goals that the paper reports on: the first so many eligible test ids in sorted order."""


class ToolWoz(Environment[Goal]):
    """MultiWOZ dialogues as goals; parts and whole goals are kinds of their own.

    Args:
        corpus: dialogues and databases; without dialogues where only worlds are asked for.
    """

    Settings: ClassVar[type[EnvironmentSettings]] = ToolWozSettings
    Task: ClassVar[type[Goal]] = Goal
    kinds: Mapping[str, str] = {"part": "parts", "whole": "whole goals"}
    notes: Mapping[str, str] = {
        "part": "A part is one domain's share of a goal, played as a goal of its own. "
        "Scores on parts are not ToolWOZ scores."
    }
    scores: Mapping[str, str] = {"whole": "ToolWOZ score"}
    source_asset = "multiwoz_dialogues"
    tasks_asset = "toolwoz_goals"
    id_name = "dialogue_id"
    agent = "an agent that finds and books places and trains"

    def __init__(self, settings: ToolWozSettings, corpus: Corpus) -> None:
        super().__init__(settings)
        self.goals = settings.goals
        self.corpus = corpus

    @property
    def played(self) -> str:
        """Parts or whole goals, as the settings say."""
        return "part" if self.goals.kind == "parts" else "whole"

    def searched(self, round: int) -> str:
        """Return what is played, but for a curriculum's first round, which searches parts."""
        return "part" if self.goals.kind == "curriculum" and round == 1 else self.played

    @property
    def least_solvable(self) -> float:  # type: ignore[override]
        """An oracle solves all goals that are kept, and 95 % judged as published (docs/toolwoz.md)."""
        return 1.0 if self.goals.semantics == "audited" else 0.9

    @property
    def digest(self) -> str:
        """Content hash of corpus and rules."""
        return content_id("toolwoz", self.corpus.digest, self.settings.tasks_key())

    @property
    def user_version(self) -> int:
        """See ``USER_VERSION``."""
        return USER_VERSION

    @property
    def rules_digest(self) -> str:
        """Content hash of tools, instructions and of what results show."""
        tools = [[tool.name, tool.description, dict(tool.parameters)] for tool in TOOLS]
        return content_id("toolwoz", INSTRUCTIONS, tools, COMPACT_FIELDS)

    @cached_property
    def _whole(self) -> Sequence[Goal]:
        # Where parts alone are played, ``domains`` says which of them; whole goals stay ToolWOZ's own.
        domains = DOMAINS if self.goals.kind == "parts" else self.goals.domains
        return derive_goals(self.corpus, self.goals.semantics, domains=domains)

    @cached_property
    def _tasks(self) -> Sequence[Goal]:
        if self.goals.kind == "whole":
            return self._whole
        parts = derive_goals(self.corpus, self.goals.semantics, parts=True, domains=self.goals.domains)
        return [*self._whole, *parts]

    def tasks(self) -> Sequence[Goal]:
        """Return the whole goals of the corpus, then its parts where the settings play any."""
        return self._tasks

    def world(self, task: Goal, *, searching: bool = False) -> ToolWozWorld:
        """Return a fresh world; databases are indexed once a process and shared."""
        return ToolWozWorld(task, self.corpus.indexed, self.goals.semantics, searching)

    def user(self, task: Goal, seed: int, max_turns: int) -> AgendaUser:
        """Return the agenda user."""
        return AgendaUser(task, seed, max_turns)

    def demonstrator(self, task: Goal, user: User, careless: Carelessness, seed: int) -> Policy | None:
        """Return the scripted agent, which reads the agenda user's mind."""
        assert isinstance(user, AgendaUser)
        return OracleAgent(task, user, careless, seed)

    def lines(self, task: Goal) -> tuple[str, ...]:
        """Return the real dialogue's user turns; turns without words are left out."""
        return tuple(text for text in self.corpus.by_id[task.source_id].words[::2] if text is not None)

    def transcript(self, task: Goal) -> str:
        """Return the real dialogue without its odd turns; they alternate, user first."""
        said = enumerate(self.corpus.by_id[task.source_id].words)
        return "\n".join(f"{('Customer', 'Agent')[i % 2]}: {text}" for i, text in said if text is not None)

    def fault(self, call: CallRecord) -> str:
        """Name the first rule of ToolWOZ that a refused call broke."""
        if call.tool not in PARAMETERS:
            return "unknown tool"
        if any(name not in PARAMETERS[call.tool] for name in call.arguments):
            return "unknown parameter"
        return "value that is no text"

    def gave_up(self, conversation: Conversation) -> bool:
        """The agenda user says so where it was stuck too often."""
        return visible(conversation)[-1].content == GAVE_UP

    def unmade(
        self, task: Goal, call: WantedCall, conversation: Conversation, calls: Sequence[CallRecord]
    ) -> str | None:
        """Say whether a booking was only claimed."""
        said = [message for message in visible(conversation) if message.content]
        claimed = sum(one.role == "assistant" and hear(one.content, booking=True).kind == "booked" for one in said)
        booked = sum(one.tool.startswith("book_") and not one.error for one in calls)
        return "claimed, not made" if call.tool.startswith("book_") and claimed > booked else None

    def roles_sentence(self) -> str:
        """Say whether roles follow the corpus's lists or a hash."""
        return self.corpus.roles_sentence

    def selection(self, name: str, tasks: Sequence[Goal]) -> Sequence[Goal]:
        """Return the paper's 450 test goals, in sorted order of their ids.

        Excluded ones keep their place among the 450, and are left out.
        """
        if name != f"test-{TEST_450}":
            return super().selection(name, tasks)
        whole = sorted((g for g in tasks if g.split == "test" and g.part is None), key=lambda g: g.source_id)
        if len(whole) < TEST_450:
            raise UserError(
                f"{name} needs MultiWOZ's official test list, and {self.corpus.name} names {len(whole)} "
                "eligible test dialogues: give --corpus a full MultiWOZ 2.1 archive, or use --role test."
            )
        return [goal for goal in whole[:TEST_450] if goal.excluded is None]

    def listed(self) -> Sequence[Goal]:
        """Return the whole goals."""
        return self._whole

    def listed_task(self, name: str) -> Goal:
        """Return the goal of a dialogue, whose id may end in ``.json``."""
        dialogue_id = name.removesuffix(".json")
        if dialogue_id not in self.corpus.by_id:
            raise UserError(f"The corpus has no dialogue {quoted(name)}.")
        goal = self._whole_by_id.get(dialogue_id)
        if goal is None:
            raise UserError(f"Dialogue {quoted(name)} is no ToolWOZ goal: it asks for taxi, police or hospital.")
        if goal.excluded is not None:
            raise UserError(f"Dialogue {quoted(name)} is excluded: {REASONS[goal.excluded]}")
        return goal

    @cached_property
    def _whole_by_id(self) -> Mapping[str, Goal]:
        return {goal.dialogue_id: goal for goal in self._whole}

    def goal_record(self, task: Goal) -> dict[str, Any]:
        """Return a goal with its domains and the entities of its calls."""
        return {
            "goal_id": task.goal_id,
            "dialogue_id": task.dialogue_id,
            "split": task.split,
            "domains": task.domains,
            "message": task.message,
            "calls": [{"tool": call.tool, "parameters": call.parameters, "entity": call.entity} for call in task.calls],
            "excluded": task.excluded,
        }

    def replay_record(
        self, task: Goal, world: World, results: Sequence[Any], conversation: Conversation
    ) -> dict[str, Any]:
        """Return results, the tools of the calls that were earned, and the reward."""
        return {
            "dialogue_id": task.dialogue_id,
            "results": results,
            "earned": [call.tool for i, call in enumerate(task.calls) if i in world.milestones()],
            "reward": judged(world, conversation),
        }

    @classmethod
    def read(cls, settings: EnvironmentSettings, cache: Path, progress: Progress) -> Self:
        """Read the corpus, or generate the sample."""
        assert isinstance(settings, ToolWozSettings)
        corpus = settings.corpus
        if corpus.source == "sample":
            return cls(settings, sample_corpus(corpus.sample_dialogues, corpus.sample_seed))
        return cls(settings, read_corpus(corpus.source, cache, progress))

    def snapshot(self) -> Snapshot:
        """Return dialogues and databases."""
        one = self.corpus
        sources = tuple(Source(d.dialogue_id, d.split, {"goal": d.goal, "log": list(d.log)}) for d in one.dialogues)
        return Snapshot(one.name, one.digest, one.source, one.licence, sources, one.databases)

    @classmethod
    def restore(cls, settings: EnvironmentSettings, snapshot: Snapshot) -> Self:
        """Rebuild the corpus."""
        assert isinstance(settings, ToolWozSettings)
        dialogues = tuple(
            Dialogue(one.source_id, one.split, one.content["goal"], tuple(one.content["log"]))  # type: ignore[arg-type]
            for one in snapshot.sources
        )
        corpus = Corpus(snapshot.name, snapshot.digest, snapshot.source, snapshot.licence, dialogues, snapshot.entities)
        return cls(settings, corpus)

    def check_digest(self) -> str | None:
        """Return the digest of the built-in sample; that of an archive names the bytes of its files."""
        if self.corpus.source != SAMPLE_SOURCE:
            return None
        return sample_digest(self.corpus.dialogues, self.corpus.databases)
