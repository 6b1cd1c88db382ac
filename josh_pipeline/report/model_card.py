"""The README of an exported model: what it is, how good it is, how it is asked, and how it is served."""

from importlib.metadata import version

from josh_pipeline.core.errors import UserError
from josh_pipeline.report.data import PolicyScore
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.words import rate_text
from josh_pipeline.settings import Settings
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.stage import recorded_run, recorded_settings
from josh_pipeline.store.warehouse import Warehouse

STANDING = {
    True: "It was promoted: no regression against the policy before it was found.",
    False: "It was not promoted: it was held against the policy before it, and refused.",
}


SERVE = """```sh
vllm serve THIS-FOLDER --served-model-name josh --host 127.0.0.1 --port 8000
josh evaluate --endpoint http://127.0.0.1:8000/v1 --model josh --profile {profile} --home NEW-FOLDER
```

The second line plays the test goals of the profile that it was trained with. A conversation from Python is in
docs/serve.md of josh-pipeline."""
GREEDY = "`generation_config.json` generates greedily, to the pipeline's stop tokens, as it was evaluated."
SAME = (
    "Where the pipeline runs on a CPU it serves this very merge, and greedy answers are the same. On a GPU it serves "
    "the adapter beside the base, which rounds otherwise: tokens that are nearly tied may fall the other way."
)


def model_card(warehouse: Warehouse, policy: PolicyRow, name: str, base: str | None) -> str:
    """Write the card.

    Args:
        name: of the policy, for people.
        base: what the adapter's config names as its base; None where there is no adapter.
    """
    scores = [one for one in home_scores(warehouse) if one.score.policy == policy.policy_digest]
    settings = _settings(warehouse, policy, evaluated=bool(scores))
    made = f"iteration {policy.iteration}" if policy.adapter_digest else "no iteration: it is what they start from"
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---",
        f"# {name}",
        f"A tool-calling dialogue agent of josh-pipeline {version('josh-pipeline')}: policy `{policy.policy_digest}`, "
        f"made by {made}, from the model {policy.model}, on {policy.corpus}.",
        *(STANDING[one] for one in sorted({score.promoted for score in scores if score.promoted is not None})),
        "## Scores",
        *_scores(scores),
        "## How it is asked",
        *_asked(settings),
        "## Serve",
        SERVE.format(profile=settings.profile if settings is not None else "PROFILE"),
        "## Files",
        *_files(policy, settings, base),
    ]
    return "\n\n".join(parts) + "\n"


def _settings(warehouse: Warehouse, policy: PolicyRow, evaluated: bool) -> Settings | None:
    """Return the settings that it was evaluated with, else resolved with; None where they cannot be read."""
    try:
        return recorded_settings(recorded_run(warehouse, "evaluation" if evaluated else "policy", policy.iteration))
    except UserError:
        return None


def _scores(scores: list[PolicyScore]) -> list[str]:
    if not scores:
        return ["It has not been evaluated."]
    rows = [
        f"| {one.corpus} | {one.goals.short}, {one.role} | {one.score.n} | {one.score.reward:.3f} "
        f"| {rate_text(one.score)} |"
        for one in scores
    ]
    head = "| corpus | goals | n | mean reward | success, 95 % interval |\n|---|---|---|---|---|"
    return ["\n".join((head, *rows)), *sorted({told for one in scores for told in one.goals.told})]


def _asked(settings: Settings | None) -> list[str]:
    if settings is None:
        return ["Its settings are of another release, which can export it with them."]
    policy, evaluation = settings.policy, settings.evaluation
    return [
        f"Environment `{settings.environment.name}`, agent format `{policy.agent}`, results `{policy.results}`; "
        f"temperature 0, {evaluation.max_tokens} new tokens a request, {evaluation.max_requests} requests a turn, "
        f"{policy.max_model_tokens} tokens of prompt and answer. Prompts are chats through the template in this "
        "folder, which is the one of the training."
    ]


def _files(policy: PolicyRow, settings: Settings | None, base: str | None) -> list[str]:
    if policy.adapter_digest is None:
        return ["The checkpoint is the model as it is: no iteration has trained anything. " + GREEDY]
    if base is None:
        return [f"The checkpoint holds all weights as trained, `{policy.adapter_digest}`, in bfloat16. {GREEDY}"]
    found = [
        "The checkpoint in this folder is the base with the adapter merged: summed in float32, kept in bfloat16. "
        + GREEDY,
        SAME,
    ]
    if settings is not None and settings.policy.quantization != "none":
        found.append(
            "Its scores are of the base in 4 bits with the adapter beside it; this checkpoint has 16 bits, and was "
            "not itself evaluated."
        )
    where = "beside it; its path is written into `adapter/adapter_config.json`, to be mended where this folder moves"
    found.append(
        f"`adapter` is the LoRA adapter `{policy.adapter_digest}` alone, for `peft` and `vllm serve --enable-lora`. "
        f"Its base is `{base}`{'' if not base.startswith('/') else ', ' + where}."
    )
    return found
