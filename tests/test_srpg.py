"""The loss of the segment-relative policy gradient: that of GRPO, on packed trees, and what training makes of it."""

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from fakes import SampledPolicy
from finished_home import run_iteration, step_of
from tampering import audited, said
from test_training import LORA, sft_row, trained
from test_training_packed import gradients
from tiny_loop import searcher, tiny_profile
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Message
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.harvest.rows import Provenance, Row, Said, Sample, Side
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import load_merged
from josh_pipeline.report.export import export
from josh_pipeline.report.viewer import load_row_page
from josh_pipeline.settings.training import LoraSettings, SftSettings, SrpgSettings
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.training import trainers
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.methods import Srpg
from josh_pipeline.training.run import train
from josh_pipeline.training.tokens import RowTokenizer
from josh_pipeline.training.trainers import batched_rows, load_base, packed_trainer

SETTINGS = SrpgSettings(lora=LORA, processes=0, batch_size=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that does something, so that no gradient is zero and the reference differs."""
    settings = SftSettings(epochs=4, learning_rate=0.05, lora=LORA, processes=0)
    return trained(base, [sft_row(number) for number in range(4)], settings, tmp_path_factory.mktemp("left")).adapter


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32, where equal sums in another order differ little."""
    monkeypatch.setattr(trainers, "load_base", lambda *given: load_base(*given).float())


def sample_row(prompt: str, said: str, advantage: float, folder: Path, **more: Any) -> Row:
    """A row whose tokens were sampled a bit less or more likely than the model has them."""
    tokens = (*ChatRenderer(folder).tokenizer(said)["input_ids"], 2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = ChatRenderer(folder).prompt_ids((Message("system", "Help."), Message("user", prompt)), ())
    heat = more.pop("temperature", 0.7)
    with torch.no_grad():
        logits = model(torch.tensor([[*asked, *tokens]])).logits[0, len(asked) - 1 : -1] / heat
    known = logits.log_softmax(-1)[range(len(tokens)), list(tokens)]
    nudge = 0.4 * torch.sin(torch.arange(len(tokens)) + float(len(said)))
    sample = Sample(tuple((known + nudge).tolist()), heat, advantage, more.pop("deviation", 0.5), more.pop("leaves", 1))
    side = Side(
        (Said(Message("assistant", said), True, tokens),), "desirable" if advantage > 0 else "undesirable", sample
    )
    source = Provenance(prompt, f"tree {prompt}", "policy")
    return Row("srpg", source, (), (Message("system", "Help."), Message("user", prompt)), (side,))


def flat_groups(folder: Path, **more: Any) -> tuple[Row, ...]:
    """Two groups of single answers to a prompt, whose advantages add up to nothing."""
    said = (("find one", ("found 7", "no", "found 12, or not")), ("find two", ("yes", "found 3", "well")))
    return tuple(
        sample_row(prompt, text, advantage, folder, **more)
        for prompt, texts in said
        for text, advantage in zip(texts, (0.75, -0.5, -0.25), strict=True)
    )


def trl_inputs(rows: Sequence[Row], folder: Path, **more: Any) -> dict[str, torch.Tensor]:
    """The batch that TRL's trainer makes of what it sampled itself: prompts padded left, answers right."""
    renderer = ChatRenderer(folder)
    prompts = [renderer.prompt_ids(row.prompt, ()) for row in rows]
    answers = [list(row.sides[0].said[0].token_ids or ()) for row in rows]
    before, after = max(map(len, prompts)), max(map(len, answers))

    def right(values: Sequence[Sequence[float]]) -> torch.Tensor:
        return torch.tensor([[*one, *[0] * (after - len(one))] for one in values])

    made = [row.sample for row in rows if row.sample]
    return {
        "prompt_ids": torch.tensor([[0] * (before - len(one)) + one for one in prompts]),
        "prompt_mask": torch.tensor([[0] * (before - len(one)) + [1] * len(one) for one in prompts]),
        "completion_ids": right(answers),
        "completion_mask": right([[1] * len(one) for one in answers]),
        "advantages": torch.tensor([one.advantage for one in made]),
        "old_per_token_logps": right([one.logprobs for one in made]),
        "num_items_in_batch": torch.tensor(sum(map(len, answers))),
    } | more


def of_packed(job: TrainingJob, out: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
    rows = batched_rows(job, ChatRenderer(job.base))
    trainer = packed_trainer(job, rows, out)
    (batch,) = rows.packed
    return *gradients(trainer, batch), trainer


def same(ours: tuple[Any, Any], wanted: tuple[Any, Any]) -> None:
    torch.testing.assert_close(ours[0], wanted[0], rtol=1e-4, atol=1e-6)
    assert ours[1].keys() == wanted[1].keys() and any(bool(grad.any()) for grad in ours[1].values())
    for name, grad in ours[1].items():
        largest = float(wanted[1][name].abs().max())
        torch.testing.assert_close(grad, wanted[1][name], rtol=1e-3, atol=1e-4 * largest)


def trls_trainer(job: TrainingJob, out: Path, settings: SrpgSettings) -> GRPOTrainer:
    """TRL's trainer of GRPO on the weights that a job starts from."""
    arguments = GRPOConfig(
        output_dir=str(out), loss_type="dapo", temperature=0.7, epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high, beta=settings.beta, use_cpu=True, bf16=False, report_to="none",
        num_generations=3, per_device_train_batch_size=6, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        trainers.trainable(job, "eager", torch.device("cpu")), lambda **_: [0.0], arguments,
        Dataset.from_list([{"prompt": "x"}]), processing_class=ChatRenderer(job.base).tokenizer,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def scored_by_base(job: TrainingJob, known: dict[str, torch.Tensor]) -> torch.Tensor:
    whole = [torch.cat([known[f"prompt_{what}"], known[f"completion_{what}"]], 1) for what in ("ids", "mask")]
    with torch.no_grad():
        model = trainers.load_policy(job, None, "eager", torch.device("cpu"))
        logits = model(whole[0], attention_mask=whole[1], position_ids=(whole[1].cumsum(1) - 1).clamp(min=0)).logits
    answers = known["completion_ids"]
    logits = logits[:, -answers.size(1) - 1 : -1] / 0.7
    return logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0]


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
@pytest.mark.usefixtures("exact")
def test_on_flat_groups_loss_and_gradients_are_those_of_trls_grpo(
    base: Path, adapter: Path, tmp_path: Path, lora: LoraSettings | None, beta: float
):
    rows = flat_groups(base)
    settings = SETTINGS.model_copy(update={"beta": beta, "lora": lora, "epsilon": 0.15, "epsilon_high": 0.25})
    job = TrainingJob("srpg", rows, base, adapter, settings, 0, "none")
    loss, grads, _ = of_packed(job, tmp_path / "ours")
    trl = trls_trainer(job, tmp_path / "trls", settings)
    inputs = trl_inputs(rows, base)
    reference = scored_by_base(job, inputs)
    wanted = trl._compute_loss(trl.model.train(), inputs | {"ref_per_token_logps": reference})
    wanted.backward()
    named = {name: p.grad for name, p in trl.model.named_parameters() if p.grad is not None}
    same((loss, grads), (wanted.detach(), named))
    assert 0 < trl._metrics["train"]["clip_ratio/region_mean"][0] < 1, "the case has both kinds of tokens"


@pytest.mark.usefixtures("exact")
def test_a_message_weighs_as_the_summed_losses_of_the_branches_that_share_it(base: Path, tmp_path: Path):
    """On the path to every leaf, each message has that leaf's advantage: as long as nothing is clipped."""
    settings = SETTINGS.model_copy(update={"lora": None, "epsilon": 0.9, "epsilon_high": 9.0})
    shared = [("find one", "found 7", 0.25, 2), ("find one", "no", -0.25, 2), ("then", "found 7", 0.75, 1)]
    leaves = [("find one", "found 7", 0.75), ("find one", "found 7", -0.25), ("find one", "no", -0.25)]
    leaves += [("find one", "no", -0.25), ("then", "found 7", 0.75)]
    as_tree = [sample_row(*one[:3], base, leaves=one[3]) for one in shared]
    one_by_one = [sample_row(*one, base) for one in leaves]
    found = []
    for rows in (as_tree, one_by_one):
        job = TrainingJob("srpg", tuple(rows), base, None, settings, 0, "none")
        found.append(of_packed(job, tmp_path)[:2])
    same(found[0], found[1])


@pytest.mark.usefixtures("exact")
def test_siblings_that_were_sampled_hotter_are_scored_hotter_where_they_share_tokens_too(base: Path, tmp_path: Path):
    heats = {"found 7": 0.5, "found 12": 1.0, "found 9": 1.5}
    rows = tuple(sample_row("find", said, 0.5, base, temperature=heat) for said, heat in heats.items())
    job = TrainingJob("srpg", rows, base, None, SETTINGS.model_copy(update={"lora": None}), 0, "none")
    found = batched_rows(job, ChatRenderer(base))
    trainer = packed_trainer(job, found, tmp_path)
    scores = trainers.scores_of(trainer._method, trainer.model.eval(), found.packed[0]).detach()
    wanted = [
        logprob - 0.4 * math.sin(place + len(row.row.sides[0].said[0].message.content))
        for row in found.batches[0]
        for place, logprob in enumerate(row.row.sample.logprobs if row.row.sample else ())
    ]
    torch.testing.assert_close(scores, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_advantages_are_divided_by_the_deviation_of_their_segment_where_that_is_asked_for(base: Path):
    rows = [RowTokenizer(ChatRenderer(base)).tokens(row) for row in flat_groups(base, deviation=0.25)]
    plain, scaled = (
        Srpg(SETTINGS.model_copy(update={"scale": scale})).extras(rows)["advantages"] for scale in ("none", "std")
    )
    assert plain == [0.75, -0.5, -0.25] * 2
    assert scaled == pytest.approx([one / 0.2501 for one in plain])


@pytest.mark.parametrize("processes", [0, 1])
def test_what_fared_better_grows_likelier_than_what_fared_worse(base: Path, tmp_path: Path, processes: int):
    rows = flat_groups(base)
    settings = SETTINGS.model_copy(
        update={"learning_rate": 0.02, "epochs": 3, "lora": None, "processes": processes, "threads": 1, "warmup": 0.0}
    )
    result = train(rows, base, None, tmp_path, settings, 0, SilentProgress(), "none")
    assert {"importance_ratio", "clip_ratio/region_mean"} <= result.curve[0].keys() and "kl" not in result.curve[0]
    after = load_merged(base, result.adapter).float()

    def likelihood(row: Row) -> float:
        (example,) = RowTokenizer(ChatRenderer(base)).tokens(row).examples
        with torch.no_grad():
            logits = after(torch.tensor([example.input_ids])).logits[0, example.cut - 1 : -1] / 0.7
        return float(logits.log_softmax(-1)[range(len(example.completion)), list(example.completion)].mean())

    gained = 0.0
    for row in rows:
        assert row.sample is not None
        nudges = [0.4 * math.sin(place + len(row.sides[0].said[0].message.content)) for place in range(30)]
        before = sum(one - nudge for one, nudge in zip(row.sample.logprobs, nudges, strict=False))
        gained += row.sample.advantage * (likelihood(row) - before / len(row.sample.logprobs))
    assert gained > 0.1


def test_nothing_is_dropped_out_of_a_policy_that_is_held_to_what_was_sampled(base: Path, tmp_path: Path):
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(r=2, alpha=4, dropout=0.3)})
    job = TrainingJob("srpg", flat_groups(base), base, None, settings, 0, "none")
    _, _, trainer = of_packed(job, tmp_path)
    drops = [module.p for module in trainer.model.modules() if isinstance(module, torch.nn.Dropout)]
    assert drops and not any(drops)


def test_trls_trainer_cannot_take_stored_samples_and_the_refusal_says_what_to_do(base: Path, tmp_path: Path):
    settings = SETTINGS.model_copy(update={"packed": False})
    with pytest.raises(UserError, match=r"srpg: set training\.packed to true"):
        train(flat_groups(base), base, None, tmp_path, settings, 0, SilentProgress(), "none")


def test_the_loop_searches_harvests_trains_and_evaluates_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scripted = searcher(lambda digest: 0.5)

    @asynccontextmanager
    async def open_policy(*given: Any) -> AsyncIterator[SampledPolicy]:
        async with scripted(*given) as policy:
            yield SampledPolicy(policy.answer, digest=policy.digest)

    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", open_policy)
    training = {"method": "srpg", "max_tokens": 8192, "processes": 0, "lora": {"r": 2, "alpha": 4}}
    home = open_home(tmp_path / "home")
    settings = home.settings(str(tiny_profile(tmp_path, training=training)))
    prepare(step_of(home, settings, "prepare"))
    run_iteration(home, settings, "000", "run-0")
    run_iteration(home, settings, "001", "run-1")
    (row,) = home.warehouse().rows("SELECT method, rows FROM current_trainings")
    assert row["method"] == "srpg" and row["rows"] > 4
    assert not said(audited(home))
    files = export(home, None, tmp_path / "out", ["jsonl"])
    (exported,) = [one for one in files if one.name.endswith(".jsonl")]
    line = json.loads((tmp_path / "out" / exported.name).read_text().splitlines()[0])
    assert len(line["logprobs"]) == len(line["token_ids"]) and line["advantage"] and line["temperature"] == 0.7
    found = audit_row(home, stored_rows(home.warehouse(), "001")[0].row_id)
    assert found.audit.sound and "desirable, advantage " in load_row_page(home.warehouse(), found)
