"""Settings of ToolWOZ: where dialogues come from, and which goals are played."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from josh_pipeline.core.environment import EnvironmentSettings, Section
from josh_pipeline.core.redaction import kept_apart
from josh_pipeline.environments.toolwoz.goal import Domain, Semantics


class CorpusSettings(Section):
    """Where dialogues come from."""

    source: Annotated[str, AfterValidator(kept_apart)] = Field(
        "sample", description="'sample' (built in), or a folder, zip or URL of MultiWOZ."
    )
    sample_dialogues: int = Field(700, ge=20, description="Dialogues of the built-in sample corpus.")
    sample_seed: int = Field(0, ge=0, description="Seed of the built-in sample corpus.")

    @property
    def key(self) -> list[str | int]:
        """Names the source: the sample by its size and seed, else the resolved path or the URL."""
        if self.source == "sample":
            return ["sample", self.sample_dialogues, self.sample_seed]
        if self.source.startswith(("http://", "https://")):
            return [self.source]
        return [str(Path(self.source).expanduser().resolve())]


class GoalSettings(Section):
    """Which goals are played."""

    semantics: Semantics = Field("audited", description="'audited' or 'paper' (bug for bug).")
    kind: Literal["parts", "whole", "curriculum"] = Field(
        "parts",
        description="'parts' are one domain's share of a dialogue each, 'whole' goals are all of it; 'curriculum' "
        "searches parts in the first round and whole goals after it, and evaluates whole goals in all rounds.",
    )
    domains: tuple[Domain, ...] = Field(
        ("hotel", "restaurant", "attraction", "train"), min_length=1, description="Domains that are played."
    )


class ToolWozSettings(EnvironmentSettings):
    """ToolWOZ: MultiWOZ dialogues as goals over search and booking tools."""

    name: Literal["toolwoz"] = Field("toolwoz", description="Goals over search and booking tools.")
    corpus: CorpusSettings = CorpusSettings()
    goals: GoalSettings = GoalSettings()

    @property
    def shown(self) -> str:
        """The corpus."""
        return repr(self.corpus.source)

    def source_key(self) -> Any:
        """The corpus alone."""
        return self.corpus.key

    def tasks_key(self) -> Any:
        """Which goals, and how they are judged; as releases before wrote it, which knew no curriculum."""
        goals = self.goals.model_dump(mode="json")
        kind = goals.pop("kind")
        return goals | ({"kind": kind} if kind == "curriculum" else {"parts": kind == "parts"})

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read ``goals.parts`` of releases before as the kind that it was."""
        goals = values.get("goals")
        if not isinstance(goals, dict) or "kind" in goals or not isinstance(goals.get("parts"), bool):
            return values
        others = {name: value for name, value in goals.items() if name != "parts"}
        return values | {"goals": others | {"kind": "parts" if goals["parts"] else "whole"}}
