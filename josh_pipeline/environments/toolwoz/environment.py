"""ToolWOZ as an environment: what the rest of the pipeline sees of this folder."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from josh_pipeline.core.environment import (
    Carelessness,
    Environment,
    EnvironmentSettings,
    Snapshot,
    Source,
    WantedCall,
)
from josh_pipeline.core.ids import content_id
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User
from josh_pipeline.core.world import CallRecord
from josh_pipeline.environments.toolwoz.agenda import AgendaUser
from josh_pipeline.environments.toolwoz.databases import databases_of
from josh_pipeline.environments.toolwoz.goal import DOMAINS, Goal
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.load import load_corpus, shown_as_bars
from josh_pipeline.environments.toolwoz.records import Corpus, Dialogue, words
from josh_pipeline.environments.toolwoz.roles import paper_test_goals, roles_sentence
from josh_pipeline.environments.toolwoz.script import OracleAgent
from josh_pipeline.environments.toolwoz.settings import ToolWozSettings
from josh_pipeline.environments.toolwoz.tools import TOOL_BY_NAME, TOOLS
from josh_pipeline.environments.toolwoz.world import COMPACT_FIELDS, INSTRUCTIONS, ToolWozWorld

USER_VERSION = 1
"""Raised when the agenda user's words or choices change: scores before and after do not compare."""


class ToolWoz(Environment[Goal]):
    """MultiWOZ dialogues as goals; parts and whole goals are kinds of their own.

    Args:
        corpus: dialogues and databases; without dialogues where only worlds are asked for.
    """

    Settings: ClassVar[type[EnvironmentSettings]] = ToolWozSettings
    Task: ClassVar[type[Goal]] = Goal
    kinds: Mapping[str, str] = {"part": "parts", "whole": "whole goals"}
    notes: Mapping[str, str] = {
        "part": "A part is one domain's share of a goal, played as a goal of its own. Scores on parts are not "
        "ToolWOZ scores."
    }
    source_asset = "multiwoz_dialogues"
    tasks_asset = "toolwoz_goals"
    agent = "an agent that finds and books places and trains"

    def __init__(self, settings: ToolWozSettings, corpus: Corpus) -> None:
        super().__init__(settings)
        self.goals = settings.goals
        self.corpus = corpus

    @property
    def played(self) -> str:
        """Parts or whole goals, as the settings say."""
        return "part" if self.goals.parts else "whole"

    @property
    def headline(self) -> str:
        """The paper's scores are of whole goals."""
        return "whole"

    @property
    def least_solvable(self) -> float:  # type: ignore[override]
        """An oracle solves all goals that are kept, and 95 % judged as published (docs/toolwoz.md)."""
        return 1.0 if self.goals.semantics == "audited" else 0.9

    @property
    def digest(self) -> str:
        """Content hash of corpus and rules."""
        return content_id("toolwoz", self.corpus.digest, self.goals.model_dump(mode="json"))

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
    def _goals(self) -> tuple[Goal, ...]:
        # With parts, ``domains`` says which parts are played; whole goals stay ToolWOZ's own.
        whole = DOMAINS if self.goals.parts else self.goals.domains
        goals = derive_goals(self.corpus, self.goals.semantics, domains=whole)
        if self.goals.parts:
            goals += derive_goals(self.corpus, self.goals.semantics, parts=True, domains=self.goals.domains)
        return tuple(goals)

    def tasks(self) -> Sequence[Goal]:
        """Return the whole goals of the corpus, then its parts where the settings play parts."""
        return self._goals

    def world(self, task: Goal, *, searching: bool = False) -> ToolWozWorld:
        """Return a fresh world; databases are indexed once a process and shared."""
        return ToolWozWorld(task, databases_of(self.corpus), self.goals.semantics, searching)

    def user(self, task: Goal, seed: int, max_turns: int) -> AgendaUser:
        """Return the agenda user."""
        return AgendaUser(task, seed, max_turns)

    def demonstrator(self, task: Goal, user: User, careless: Carelessness, seed: int) -> Policy | None:
        """Return the scripted agent, which reads the agenda user's mind."""
        assert isinstance(user, AgendaUser)
        return OracleAgent(task, user, careless, seed)

    def oracle(self, task: Goal) -> Sequence[WantedCall]:
        """Return the ground-truth calls."""
        return task.calls

    def lines(self, task: Goal) -> tuple[str, ...]:
        """Return the real dialogue's user turns; turns without words are left out."""
        said = (words(turn) for turn in self._dialogue(task).log[::2])
        return tuple(line for line in said if line is not None)

    def transcript(self, task: Goal) -> str:
        """Return the real dialogue without its odd turns; they alternate, user first."""
        speakers = ("Customer", "Agent")
        said = ((speakers[i % 2], words(turn)) for i, turn in enumerate(self._dialogue(task).log))
        return "\n".join(f"{speaker}: {text}" for speaker, text in said if text is not None)

    def _dialogue(self, task: Goal) -> Dialogue:
        return self.corpus.by_id[task.source_id]

    def fault(self, call: CallRecord) -> str:
        """Name the first rule of ToolWOZ that a refused call broke."""
        tool = TOOL_BY_NAME.get(call.tool)
        if tool is None:
            return "unknown tool"
        if any(name not in tool.properties for name in call.arguments):
            return "unknown parameter"
        return "value that is no text"

    def roles_sentence(self) -> str:
        """Say whether roles follow the corpus's lists or a hash."""
        return roles_sentence(self.corpus)

    def selection(self, name: str, tasks: Sequence[Goal]) -> Sequence[Goal]:
        """Return the paper's 450 test goals, the excluded ones left out."""
        if name != "test-450":
            return super().selection(name, tasks)
        return [goal for goal in paper_test_goals(self.corpus, tasks) if goal.excluded is None]

    @classmethod
    def read(cls, settings: EnvironmentSettings, cache: Path, progress: Progress) -> Self:
        """Read the corpus."""
        assert isinstance(settings, ToolWozSettings)
        corpus = settings.corpus
        with shown_as_bars(progress) as bars:
            return cls(
                settings,
                load_corpus(
                    corpus.source,
                    cache,
                    sample_dialogues=corpus.sample_dialogues,
                    sample_seed=corpus.sample_seed,
                    progress=bars,
                ),
            )

    def snapshot(self) -> Snapshot:
        """Return dialogues and databases."""
        one = self.corpus
        sources = tuple(
            Source(d.dialogue_id, d.split, {"goal": d.goal, "log": list(d.log)}) for d in one.dialogues
        )
        return Snapshot(one.name, one.digest, one.source, one.licence, sources, one.databases)

    @classmethod
    def restore(cls, settings: EnvironmentSettings, snapshot: Snapshot) -> Self:
        """Rebuild the corpus."""
        assert isinstance(settings, ToolWozSettings)
        dialogues = tuple(
            Dialogue(one.source_id, one.split, one.content["goal"], tuple(one.content["log"]))  # type: ignore[arg-type]
            for one in snapshot.sources
        )
        corpus = Corpus(
            snapshot.name, snapshot.digest, snapshot.source, snapshot.licence, dialogues, snapshot.entities
        )
        return cls(settings, corpus)
