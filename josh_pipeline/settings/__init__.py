"""Settings of a run: validated whole, with every fault reported at once, before anything starts."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from josh_pipeline.core.checks import checked_cron, checked_url, checked_zone
from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Environment, EnvironmentSettings, Section
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.faults import Place, by_giver, faults_in
from josh_pipeline.dialogue.users import UserKind
from josh_pipeline.environments.registry import DEFAULT, environment_class
from josh_pipeline.settings.choices import validated_by_name
from josh_pipeline.settings.training import OF_ALL_METHODS, SftSettings, TrainingSettings


class Prices(Section):
    """What a million tokens cost, in any one currency."""

    prompt: float = Field(0.0, ge=0, description="A million prompt tokens.")
    cached: float | None = Field(None, ge=0, description="A million cached ones; unset: like prompt.")
    completion: float = Field(0.0, ge=0, description="A million sampled tokens.")

    def of(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return what these tokens cost; the cached ones are part of the prompt's."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * cached + completion_tokens * self.completion) / 1e6


Endpoint = Annotated[str, AfterValidator(checked_url)]


def _without_ours(body: dict[str, Any]) -> dict[str, Any]:
    """Return what requests hold besides, if it takes no place of what the pipeline itself writes and reads."""
    if ours := sorted(body.keys() & {"model", "messages", "tools", "stream", "n"}):
        raise ValueError(f"{' and '.join(ours)} cannot be given here: the pipeline writes that itself")
    return body


ExtraBody = Annotated[dict[str, Any], AfterValidator(_without_ours)]


class PolicySettings(Section):
    """The model, and what runs it."""

    model: str = Field("smollm2", description="'smollm2' (bundled), or any Hugging Face causal LM.")
    backend: Literal["auto", "vllm", "transformers"] = Field(
        "auto", description="What runs the model; 'auto' is vLLM where it is installed, else transformers."
    )
    endpoint: Endpoint | None = Field(None, description="Base URL of an OpenAI-compatible server.")
    extra_body: ExtraBody = Field({}, description="What every request to the endpoint holds besides.")
    agent: Literal["compact", "function_calling", "react"] = Field(
        "compact", description="The format in which the agent writes calls: bare JSON, native tools, or ReAct."
    )
    results: Literal["compact", "full"] = Field("compact", description="What the agent sees of a result.")
    max_model_tokens: int = Field(2048, ge=128, description="Context length, prompt and completion.")
    quantization: Literal["none", "nf4"] = Field(
        "none", description="'nf4' loads the base in 4 bits; it needs a CUDA GPU and bitsandbytes."
    )
    prices: Prices = Field(Prices(), description="Of an endpoint that is paid for.")


class UserSettings(Section):
    """The simulated user."""

    kind: UserKind = Field(
        "agenda",
        description="'agenda' is the environment's own, by rules; 'script' repeats a real user's words, 'none' says "
        "the task's message alone; 'goal' and 'guide' are LLMs that see the goal, or the goal and a real conversation.",
    )
    model: str | None = Field(None, description="Model name at the endpoint, for the LLM users.")
    endpoint: Endpoint | None = Field(None, description="OpenAI-compatible server, for the LLM users.")
    extra_body: ExtraBody = Field({}, description="What every request to it holds besides.")
    max_turns: int = Field(8, ge=1, description="The agenda user gives up after this many messages.")
    prices: Prices = Field(Prices(), description="Of the LLM users' endpoint.")


class ColdStartSettings(Section):
    """Scripted demonstrations that teach a small model the format. 0 conversations: none."""

    conversations: int = Field(96, ge=0, description="Scripted conversations; 0 leaves the model as it is.")
    claimed_bookings: float = Field(0.5, ge=0, le=1, description="Share of bookings claimed, not made.")
    dropped_constraints: float = Field(0.3, ge=0, le=1, description="Share of searches that drop one.")
    false_no_match: float = Field(0.15, ge=0, le=1, description="Share of results denied to the user.")
    epochs: int = Field(2, ge=1, description="Passes over the conversations.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    batch_size: int = Field(4, ge=1, description="Conversations a step.")


class SearchSettings(Section):
    """The JOSH search (section 3 of the paper; its defaults are the paper's)."""

    goals: int = Field(926, ge=1, description="Training goals rolled out in an iteration.")
    draw: Literal["least_played", "failures"] = Field(
        "least_played",
        description="Which goals: those that earlier rounds searched least; 'failures' draws from these by the "
        "tools that the policy missed first on the gate's goals.",
    )
    beam_size: int = Field(8, ge=1, description="Branches that are alive at once in a tree.")
    children: int = Field(2, ge=1, description="Children of a leaf at most, where the beam has room for them.")
    collapse: Literal["first", "all"] = Field(
        "first", description="What survives a reward: the first branch that earned it, or all that earned the same."
    )
    merge_twins: bool = Field(
        False, description="End a branch that says to the letter what its elder sibling says; others take its place."
    )
    redraws: int = Field(0, ge=0, description="How often a round draws another child where a twin was merged.")
    restarts: int = Field(
        0, ge=0, description="How often a tree whose leaves all ended goes on from its last reward, with new children."
    )
    max_rounds: int = Field(15, ge=1, description="Agent turns of a branch at most.")
    temperature: float = Field(1.0, gt=0, description="Of sampling; siblings must differ.")
    temperature_step: float = Field(0.0, ge=0, description="Added to the temperature for each elder sibling.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share of the probability that is sampled from.")
    top_k: int = Field(0, ge=0, description="Likeliest tokens that are sampled from; 0: all.")
    max_tokens: int = Field(256, ge=1, description="New tokens a request.")
    max_requests: int = Field(3, ge=1, description="Requests an agent turn.")
    step_by: Literal["turn", "action"] = Field(
        "turn", description="What a branch is: a whole turn up to the agent's words, or a single action."
    )
    in_flight: int = Field(64, ge=1, description="Requests in flight at most, over all conversations.")
    max_failed_share: float = Field(0.2, ge=0, le=1, description="The step fails above this share.")

    @model_validator(mode="after")
    def _redraws_need_merging(self) -> Self:
        if self.redraws and not self.merge_twins:
            raise ValueError("redraws replace merged twins: set search.merge_twins to true")
        return self


class BudgetSettings(Section):
    """What the rollouts of an iteration may use, agents and users together; they end with what they have."""

    max_tokens: int | None = Field(None, ge=1, description="Prompt and sampled tokens.")
    max_cost: float | None = Field(None, gt=0, description="Money, in the currency of the prices.")


class HarvestSettings(Section):
    """Which trees give rows."""

    mode: Literal["paper", "partial", "turns"] = Field(
        "partial",
        description="'paper' takes trees with the full reward only, 'partial' all that earned some; 'turns' learns "
        "of these only what got on: no turn that called tools and earned nothing, nor the words that led to it.",
    )
    replay: int = Field(0, ge=0, description="Iterations before this one whose rows are trained on again.")


class EvaluationSettings(Section):
    """The benchmark: greedy conversations on held-out goals."""

    test_goals: int = Field(150, ge=1, description="Goals of role test; tables and figures show them.")
    val_goals: int = Field(60, ge=1, description="Goals of role val; they gate the promotion.")
    whole_goals: int = Field(0, ge=0, description="Whole goals evaluated once at the end of a run.")
    max_messages: int = Field(15, ge=2, description="Visible messages a conversation.")
    max_tokens: int = Field(256, ge=1, description="New tokens a request.")
    max_requests: int = Field(3, ge=1, description="Requests an agent turn.")
    bootstrap: int = Field(10_000, ge=100, description="Resamples of the paired bootstrap.")
    max_drift: float = Field(
        1.5, gt=0, description="Nats a token on general texts; a candidate that drifts further is refused."
    )


Cron = Annotated[str, AfterValidator(checked_cron)]


class AutomationSettings(Section):
    """What schedules and sensor do once they are switched on; no result depends on it."""

    retraining_cron: Cron = Field(
        "0 3 * * 1", description="When the schedule weekly_retraining asks for the next iteration: a cron string."
    )
    audit_cron: Cron = Field("0 6 * * 0", description="When the schedule weekly_audit audits the home: a cron string.")
    timezone: Annotated[str, AfterValidator(checked_zone)] = Field(
        "UTC", description="Time zone of both, e.g. Europe/Berlin."
    )
    refresh_corpus: bool = Field(
        False,
        description="Read the source anew at each retraining, and make dialogues and goals again where it has "
        "changed; a URL's download is kept. False: go on with what is stored.",
    )
    max_iteration: int = Field(10, ge=1, description="The sensor starts no iteration after this one.")
    hours_a_day: float = Field(
        24.0, gt=0, description="The sensor starts none once its runs of the last 24 hours took this long."
    )


class TrackingSettings(Section):
    """An experiment tracker that training curves and scores are written to besides; no result depends on it."""

    kind: Literal["none", "trackio", "wandb", "mlflow"] = Field(
        "none", description="Which tracker; its package is an extra of the same name."
    )
    project: str = Field("josh", min_length=1, description="The project that holds the runs; MLflow's experiment.")


def _of_its_class(value: Any) -> Any:
    """Validate the settings of an environment by the class that its name finds."""
    if isinstance(value, EnvironmentSettings):
        return value
    if not isinstance(value, dict) or not isinstance(name := value.get("name", DEFAULT), str):
        raise ValueError("give a mapping with the name of an environment")
    return validated_by_name(lambda name: environment_class(name).Settings, "name", name, _renamed(value))


def _renamed(environment: dict[str, Any]) -> dict[str, Any]:
    """Return settings of an environment under the names that they have now, where its class is to be had."""
    try:
        return environment_class(str(environment.get("name", DEFAULT))).Settings.renamed(environment)
    except UserError:
        return environment


EnvironmentChoice = Annotated[SerializeAsAny[EnvironmentSettings], BeforeValidator(_of_its_class)]


class Settings(Section):
    """Everything a run depends on."""

    profile: str
    seed: int = Field(0, ge=0, description="Of everything that is drawn.")
    environment: EnvironmentChoice = Field({"name": DEFAULT}, validate_default=True)
    policy: PolicySettings = PolicySettings()
    user: UserSettings = UserSettings()
    cold_start: ColdStartSettings = ColdStartSettings()
    search: SearchSettings = SearchSettings()
    budget: BudgetSettings = BudgetSettings()
    harvest: HarvestSettings = HarvestSettings()
    training: TrainingSettings = SftSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    automation: AutomationSettings = AutomationSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, values: Any) -> Any:
        moved = [name for name in ("corpus", "goals") if isinstance(values, dict) and name in values]
        if moved:
            where = f"environment: {{name: {DEFAULT}, {', '.join(f'{name}: ...' for name in moved)}}}"
            raise ValueError(f"{' and '.join(moved)} now belong into the environment: write {where}")
        return values

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> Self:
        if self.budget.max_cost is not None and self.policy.prices == self.user.prices == Prices():
            raise ValueError("budget.max_cost needs policy.prices or user.prices")
        return self

    @model_validator(mode="after")
    def _user_needs_a_model(self) -> Self:
        if self.user.kind in ("goal", "guide") and None in (self.user.model, self.user.endpoint):
            raise ValueError(f"the {self.user.kind} user needs a model: set user.endpoint and user.model")
        return self

    @model_validator(mode="after")
    def _demonstrations_are_compact(self) -> Self:
        if self.taught and (self.policy.agent, self.policy.results) != ("compact", "compact"):
            raise ValueError(
                "the cold start teaches the compact agent's format and results: "
                "set policy.agent and policy.results to compact, or cold_start.conversations to 0"
            )
        return self

    @model_validator(mode="after")
    def _somebody_can_demonstrate(self) -> Self:
        played = environment_class(self.environment.name)
        if self.taught and played.demonstrator is Environment.demonstrator:
            raise ValueError(
                f"{self.environment.shown} has no scripted agent that could demonstrate: "
                "set cold_start.conversations to 0"
            )
        return self

    @model_validator(mode="after")
    def _script_has_words(self) -> Self:
        if self.user.kind == "script" and environment_class(self.environment.name).lines is Environment.lines:
            raise ValueError(f"{self.environment.shown} has no real user's words to repeat: choose another user.kind")
        return self

    @model_validator(mode="after")
    def _failures_can_be_learned_from(self) -> Self:
        alone = min(self.search.beam_size, self.search.children) == 1 and not self.search.restarts
        if alone and self.training.method in ("kto", "dpo", "srpg"):
            raise ValueError(
                f"{self.training.method} learns from branches that failed beside ones that worked: "
                "set search.beam_size and search.children to 2 or more, or training.method to sft"
            )
        return self

    @model_validator(mode="after")
    def _only_an_adapter_is_trained_on_four_bits(self) -> Self:
        if self.training.lora is None and self.policy.quantization != "none":
            raise ValueError(
                "weights in 4 bits cannot be trained: set policy.quantization to none, or give training.lora its r "
                "and alpha"
            )
        return self

    @model_validator(mode="after")
    def _samples_have_log_probabilities(self) -> Self:
        search = self.search
        whole = self.policy.endpoint is None and search.top_p == 1 and search.top_k == 0
        if self.training.method == "srpg" and not whole:
            raise ValueError(
                "srpg needs the log-probability of what was sampled in all of the policy's distribution: set "
                "search.top_p to 1, search.top_k to 0 and policy.endpoint to null, or choose another training.method"
            )
        return self

    @model_validator(mode="after")
    def _answers_fit_the_context(self) -> Self:
        longest = max(self.search.max_tokens, self.evaluation.max_tokens)
        if self.policy.endpoint is None and longest >= self.policy.max_model_tokens:
            raise ValueError(
                f"an answer of {longest} tokens leaves no room for a prompt: set policy.max_model_tokens higher, "
                "or search.max_tokens and evaluation.max_tokens lower"
            )
        return self

    @property
    def taught(self) -> bool:
        """Whether a cold start teaches the model: one at an endpoint is played with as it is."""
        return bool(self.cold_start.conversations) and self.policy.endpoint is None

    @property
    def digest(self) -> str:
        """Content hash of all settings."""
        return content_id(self.model_dump(mode="json"))


def profile_names() -> tuple[str, ...]:
    """Names of the shipped profiles."""
    folder = files("josh_pipeline") / "profiles"
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


def load_settings(
    profile: str, overrides: dict[str, Any] | None = None, givers: Mapping[Place, str] | None = None, called: str = ""
) -> Settings:
    """Read a profile (a shipped name or a YAML file) and lay overrides over it.

    Args:
        profile: a shipped profile's name, or the path of a YAML file, which may name a shipped one that it
            ``extends``.
        overrides: nested mapping, merged key by key over the file's.
        givers: what the overrides came from, by their places, for faults to name, e.g. ``--seed``; of the empty
            place, all others.
        called: what people call the profile; empty for its name.

    Raises:
        UserError: the profile does not exist, or holds unknown keys or bad values; all are named.
    """
    values, given = _profile(profile), overrides or {}
    try:
        return Settings.model_validate({"profile": Path(profile).stem} | merged(values, given))
    except ValidationError as fault:
        found = faults_in(fault, Settings)
        raise UserError(by_giver(found, given, givers or {}, called or f"profile {profile}")) from None


def _profile(name: str) -> dict[str, Any]:
    """Read the values of a shipped profile or a YAML file, over those of the profile that it extends."""
    if name in profile_names():
        text = (files("josh_pipeline") / "profiles" / f"{name}.yaml").read_text()
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            reason = fault.strerror if isinstance(fault, OSError) else "it is no text"
            known = ", ".join(profile_names())
            raise UserError(f"No profile {name!r} ({reason}): use one of {known}, or a YAML file's path.") from None
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as fault:
        raise UserError(f"Profile {name} is not valid YAML: {' '.join(str(fault).split())}.") from None
    if not isinstance(values, dict):
        raise UserError(f"Profile {name} must hold settings by name.")
    if isinstance(environment := values.get("environment"), dict):
        values["environment"] = _renamed(environment)  # before anything is laid over it
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if parent not in profile_names():
        raise UserError(f"Profile {name} extends {parent!r}: only {', '.join(profile_names())} can be extended.")
    return merged(_profile(parent), values)


def merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Lay nested overrides over nested values.

    Where they choose another training method, what was vetted for the old one is dropped; where another
    environment, all of the old one's settings.
    """
    result = dict(values)
    for key, value in overrides.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            if key == "training" and value.get("method", old.get("method")) != old.get("method"):
                old = {name: kept for name, kept in old.items() if name in OF_ALL_METHODS}
            if key == "environment" and value.get("name", old.get("name")) != old.get("name"):
                old = {}
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result
