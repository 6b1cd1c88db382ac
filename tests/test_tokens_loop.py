"""A round on a model whose template leaves old thoughts out: searched, harvested, trained and audited."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from chat_templates import tiny_qwen3
from fakes import ScriptedPolicy
from finished_home import run_iteration, run_stages, step_of
from tampering import audited, said
from test_training_packed import SETTINGS, exact, same_steps, tree_rows
from tiny_loop import answering, tiny_profile
from tiny_tokens import tiny_ids

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.policy import Completion, Policy, Request
from josh_pipeline.harvest.harvest import _Reply
from josh_pipeline.harvest.rows import Said
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import Weights
from josh_pipeline.settings import PolicySettings
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.store.home import Home
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.tokens import IGNORED, RowTokenizer

THOUGHT = "<think>\nHm.\n</think>\n\n"
__all__ = ["exact"]


@asynccontextmanager
async def thinking(
    settings: PolicySettings, weights: Weights | None, digest: str, in_flight: int
) -> AsyncIterator[Policy]:
    """Open a scripted policy that thinks, and says after which tokens."""
    assert weights is not None
    renderer, answers = ChatRenderer(weights.base), answering()

    class Thinking(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            made = await super().complete(request)
            prompt = renderer.prompt_ids(request.messages, request.tools)
            return replace(made, token_ids=tiny_ids(THOUGHT + made.text), prompt_digest=content_id(prompt))

    yield Thinking(lambda request: answers(request, 0.8), digest=digest)


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3(tmp_path_factory.mktemp("qwen3") / "model")


@pytest.fixture
def home(qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home on the model, with a base's evaluation."""
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", thinking)
    profile = tiny_profile(tmp_path)
    values = yaml.safe_load(profile.read_text())
    values["policy"]["model"] = str(qwen3)
    profile.write_text(yaml.safe_dump(values))
    home = open_home(tmp_path / "home")
    settings = home.settings(str(profile))
    home.remember_settings(settings)
    prepare(step_of(home, settings, "prepare"))
    run_iteration(home, settings, "000", "run-0")
    return home


@pytest.mark.parametrize(("method", "packed"), [("sft", True), ("sft", False), ("kto", True), ("dpo", False)])
def test_a_round_trains_the_tokens_that_were_sampled_thoughts_and_all(method: str, packed: bool, home: Home):
    changes = {"packed": packed, "max_tokens": 8192} | ({} if method == "sft" else {"sft_weight": 0})
    training = SETTINGS[method].model_copy(update=changes)
    run_iteration(home, home.settings().model_copy(update={"training": training}), "001", "run-1")
    rows = stored_rows(home.warehouse(), "001")
    tokenizer = RowTokenizer(ChatRenderer(home.absolute(policy_of(home.warehouse(), "001").base_path)))
    assert rows and not any(row.retokenised for row in rows)
    for row in rows:
        sampled = [one.token_ids for side in row.sides for one in side.said if one.train]
        assert all(one.prompt_digest for side in row.sides for one in side.said if one.train)
        examples = tokenizer.tokens(row).examples
        labels = [label for one in examples for label in one.labels if label != IGNORED]
        assert labels == [token for ids in sampled for token in ids or ()]
        assert len(examples) == len(sampled), "a thought is gone from the next prompt"
        assert row.tokens == tokenizer.length(row)
    (made,) = home.warehouse().rows("SELECT rows FROM current_trainings")
    assert 0 < made["rows"] <= len(rows)
    assert audited(home).sound, said(audited(home))


def test_rows_of_before_without_their_prompts_are_trained_and_audited(home: Home, monkeypatch: pytest.MonkeyPatch):
    settings = home.settings()
    with monkeypatch.context() as before:
        before.setattr(_Reply, "said", lambda reply, train: Said(reply.message, train, reply.completion.token_ids))
        before.setattr(RowTokenizer, "length", lambda tokenizer, row: 7)
        run_stages(home, settings, "run-1", "001", "policy", "rollouts", "labels", "preferences")
    run_stages(home, settings, "run-2", "001", "adapter")
    assert audited(home).sound, said(audited(home))


def test_a_template_that_changed_after_the_search_stops_the_harvest_with_what_to_do(home: Home):
    settings = home.settings()
    run_stages(home, settings, "run-1", "001", "policy", "rollouts", "labels")
    base = home.absolute(policy_of(home.warehouse(), "001").base_path)
    template = base / "chat_template.jinja"
    before = template.read_text()
    template.write_text(before.replace("<|im_start|>assistant\\n", "<|im_start|>assistant \\n"))
    try:
        with pytest.raises(UserError, match="chat template has changed since"):
            run_stages(home, settings, "run-2", "001", "preferences")
    finally:
        template.write_text(before)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("method", ["sft", "kto", "dpo"])
def test_each_step_is_trls_where_a_conversation_is_several_sequences(method: str, qwen3: Path, tmp_path: Path):
    job = TrainingJob(method, tuple(tree_rows(method)), qwen3, None, SETTINGS[method], 0, "none")
    several = max(len(RowTokenizer(ChatRenderer(qwen3)).tokens(row).examples) for row in job.rows)
    assert several == {"sft": 3, "kto": 1, "dpo": 2}[method]
    assert same_steps(job, tmp_path) > 0
