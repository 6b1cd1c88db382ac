"""Packed rows hold every shared prefix once, and train exactly as TRL does on plain rows."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side, SideLabel
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.models import foundation
from josh_pipeline.settings.training import DpoSettings, KtoSettings, LoraSettings, SftSettings, TrainingBase
from josh_pipeline.training import packing, trainers
from josh_pipeline.training.batches import mixed_batches, tree_batches
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.packing import pack, visible_blocks
from josh_pipeline.training.run import train
from josh_pipeline.training.tokens import IGNORED, TokenExample
from josh_pipeline.training.trainers import batched_rows, load_base, model_inputs, packed_trainer, plain_trainer

LORA = LoraSettings(r=2, alpha=4)
SETTINGS: dict[str, TrainingBase] = {
    "sft": SftSettings(lora=LORA, processes=0, epochs=1),
    "kto": KtoSettings(
        lora=LORA, processes=0, epochs=1, batch_size=6, sft_weight=0, undesirable_weight=1.7, learning_rate=0.02
    ),
    "dpo": DpoSettings(lora=LORA, processes=0, epochs=1, batch_size=4, learning_rate=0.02),
}


def side(text: str, label: SideLabel) -> Side:
    return Side((Said(Message("assistant", text), train=True),), label)


def tree_rows(method: str, trees: int = 4) -> list[Row]:
    """Rows as a search leaves them: golden messages, each with rivals after the same prompt."""
    draw = random.Random(0)
    rows: list[Row] = []
    for tree in range(trees):
        source = Provenance(f"goal-{tree}", f"rollout-{tree}", "policy")
        talk: Conversation = (Message("system", "Help people."),)
        for turn in range(3):
            talk += (Message("user", f"find me {draw.randrange(1000)} in the {draw.choice(['north', 'south'])}"),)
            good = side(f"found {draw.randrange(100)}", "desirable")
            rivals = [side(f"found {draw.randrange(100)}, or not", "undesirable") for _ in range(turn)]
            if method == "kto":
                rows += [Row("kto", source, (), talk, (one,)) for one in (good, *rivals)]
            if method == "dpo":
                rows += [Row("dpo", source, (), talk, (good, rival)) for rival in rivals]
            talk += good.messages
        if method == "sft":
            said = tuple(Said(message, message.role == "assistant") for message in talk[1:])
            rows.append(Row("sft", source, (), talk[:1], (Side(said, "desirable"),)))
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that does something, so that no gradient is zero and the reference differs."""
    settings = SftSettings(epochs=4, learning_rate=0.05, lora=LORA, processes=0)
    out = tmp_path_factory.mktemp("adapter")
    return train(tree_rows("sft"), base, None, out, settings, 0, SilentProgress(), "none").adapter


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32, where equal sums in another order differ little."""
    monkeypatch.setattr(trainers, "load_base", lambda *given: load_base(*given).float())


def job_of(method: str, base: Path, adapter: Path | None, **changes: Any) -> TrainingJob:
    settings = SETTINGS[method].model_copy(update=changes)
    return TrainingJob(method, tuple(tree_rows(method)), base, adapter, settings, 0, "none")


def gradients(trainer: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model.train(), trainer._prepare_inputs(inputs))
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def same_steps(job: TrainingJob, out: Path) -> int:
    """Compare every batch of an epoch, and return how many were compared."""
    renderer = ChatRenderer(job.base)
    rows = batched_rows(job, renderer)
    packed = packed_trainer(job, rows, out / "packed")
    plain_job = replace(job, settings=job.settings.model_copy(update={"packed": False}))
    plain = plain_trainer(plain_job, rows, renderer, out / "plain")
    first = 0
    for batch, row_batch in zip(rows.packed, rows.batches, strict=True):
        items = [plain.train_dataset[place] for place in range(first, first + len(row_batch))]
        first += len(row_batch)
        loss, grads = gradients(packed, batch)
        wanted, wanted_grads = gradients(plain, plain.data_collator(items))
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
        assert grads.keys() == wanted_grads.keys() and len(grads) > 4
        assert sum(bool(grad.any()) for grad in grads.values()) >= len(grads) / 2
        for name, grad in grads.items():
            largest = float(wanted_grads[name].abs().max())
            torch.testing.assert_close(grad, wanted_grads[name], rtol=1e-3, atol=1e-4 * largest)
    return len(rows.packed)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("method", "start", "reference"),
    [("sft", "base", None), ("sft", "previous", None)]
    + [(m, s, r) for m in ("kto", "dpo") for s in ("base", "previous") for r in ("base", "previous")],
)
def test_each_step_has_the_loss_and_the_gradients_of_trl_on_the_same_rows(
    method: str, start: str, reference: str | None, base: Path, adapter: Path, tmp_path: Path
):
    changes = {"start": start} | ({"reference": reference} if reference else {})
    assert same_steps(job_of(method, base, adapter, **changes), tmp_path) > 0


def test_where_all_weights_are_trained_each_step_equals_trls_too(base: Path, adapter: Path, tmp_path: Path):
    assert same_steps(job_of("sft", base, adapter, lora=None), tmp_path) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("method", ["sft", "kto", "dpo"])
def test_each_step_equals_trls_on_the_bundled_model(method: str, tmp_path: Path):
    assert same_steps(job_of(method, foundation("smollm2", tmp_path), None), tmp_path) > 0


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_a_whole_packed_training_ends_where_trls_ends(method: str, base: Path, tmp_path: Path):
    job = job_of(method, base, None, epochs=2)
    ends = []
    for packed in (True, False):
        settings = job.settings.model_copy(update={"packed": packed})
        ends.append(train(job.rows, base, None, tmp_path, settings, 0, SilentProgress(), "none"))
    ours, trls = ends
    assert ours.rows == trls.rows and ours.tokens == trls.tokens and len(ours.curve) == len(trls.curve) > 4
    for point, wanted in zip(ours.curve, trls.curve, strict=True):
        shared = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected", "logps/chosen")
        for key in (*shared, *(["kl"] if method == "kto" else ["rewards/accuracies", "rewards/margins"])):
            assert (key in point) == (key in wanted), key
            assert point.get(key) == pytest.approx(wanted.get(key), rel=1e-3, abs=1e-4), key


@pytest.mark.usefixtures("exact")
def test_kto_adds_the_cross_entropy_of_the_desirable_messages(base: Path, adapter: Path, tmp_path: Path):
    with_term, without = (job_of("kto", base, adapter, start="previous", sft_weight=weight) for weight in (0.5, 0.0))
    rows = batched_rows(with_term, ChatRenderer(base))
    trainer, bare = (packed_trainer(job, rows, tmp_path) for job in (with_term, without))
    model = load_base(base, "none", "eager", torch.device("cpu"), torch.float32)
    model.load_adapter(str(adapter))
    for batch, tokens, kto in zip(rows.packed, rows.tokens, rows.batches, strict=True):
        good = [example for example, one in zip(tokens, kto, strict=True) if one.row.good]
        total, labelled = 0.0, 0
        for example in good:
            targets = torch.tensor([[IGNORED, *example.labels[1:]]])
            kept = int((targets != IGNORED).sum())
            loss = model(input_ids=torch.tensor([example.input_ids]), labels=targets).loss
            total += float(loss.detach()) * kept
            labelled += kept
        gained = (trainer.compute_loss(trainer.model, batch) - bare.compute_loss(bare.model, batch)).detach()
        assert float(gained) == pytest.approx(0.5 * total / max(labelled, 1), rel=1e-4)


def test_trls_kto_has_no_sft_term_and_the_settings_say_so():
    with pytest.raises(ValueError, match=r"set training\.sft_weight to 0, or packed to true"):
        KtoSettings(packed=False, sft_weight=1.0)


def example(text: str, labelled: str) -> TokenExample:
    """A row of single-letter tokens; the labelled ones are marked below them."""
    ids = tuple(map(ord, text))
    return TokenExample(ids, tuple(t if mark == "^" else IGNORED for t, mark in zip(ids, labelled, strict=True)), 0)


def test_packed_rows_hold_each_shared_prefix_once_and_nothing_that_is_not_read():
    packed = pack(
        [example("abcdX", "    ^"), example("abcdYZ", "    ^^"), example("abQ..", "  ^  "), example("....", "    ")]
    )
    assert "".join(map(chr, packed.input_ids)) == "abcdY"
    assert packed.depths.tolist() == [0, 1, 2, 3, 4]
    scored = [
        (int(row), chr(packed.input_ids[packed.parents[packed.edge_parent[edge]]]), chr(packed.edge_token[edge]))
        for row, edge in zip(packed.item_row, packed.item_edge, strict=True)
    ]
    assert scored == [(0, "d", "X"), (1, "d", "Y"), (1, "Y", "Z"), (2, "b", "Q")]
    # The distributions after d, Y and b are computed once each.
    assert len(packed.parents) == 3 and packed.rows == 4


def test_every_token_sees_exactly_its_own_path():
    draw = random.Random(0)
    texts = ["".join(draw.choice("ab") for _ in range(draw.randrange(2, 12))) for _ in range(40)]
    packed = pack([example(text, "^" * len(text)) for text in texts])
    letters = "".join(map(chr, packed.input_ids))
    paths = set()
    start = 0
    for keys, visible in visible_blocks(packed.ends, 7):
        for row in visible:
            path = keys[row]
            assert packed.depths[path].tolist() == list(range(len(path))) and path[-1] == start
            paths.add("".join(letters[place] for place in path))
            start += 1
    assert start == packed.tokens
    assert paths == {text[:end] for text in texts for end in range(1, len(text))}


def test_the_kernel_for_gpus_gives_what_the_one_for_cpus_gives(base: Path):
    rows = batched_rows(job_of("kto", base, None), ChatRenderer(base))
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation=packing.IMPLEMENTATION)
    inputs = model_inputs(rows.packed[0])
    unfused = model(**inputs).logits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_unfused", packing._fused)
        torch.testing.assert_close(model(**inputs).logits, unfused, rtol=1e-4, atol=1e-5)


def test_attention_that_cannot_be_packed_is_refused_with_what_to_do():
    states = torch.zeros(1, 1, 4, 8)
    blocks = visible_blocks(torch.tensor([4, 4, 4, 4]), 4)
    for kind in ({"sliding_window": 2}, {"softcap": 30.0}, {"tree": ()}):
        with pytest.raises(UserError, match=r"set training\.packed to false"):
            packing.tree_attention(torch.nn.Identity(), states, states, states, None, 1.0, **({"tree": blocks} | kind))


def test_trees_stay_together_and_every_row_is_trained():
    draw = random.Random(0)
    for seed in range(50):
        trees = [str(draw.randrange(6)) for _ in range(draw.randrange(1, 50))]
        size = draw.randrange(1, 12)
        batches = tree_batches(trees, size, seed)
        assert sorted(row for batch in batches for row in batch) == list(range(len(trees)))
        assert all(len(batch) == size for batch in batches[:-1])
    whole = tree_batches(["a"] * 4 + ["b"] * 4 + ["c"] * 4, 4, 0)
    assert all(len({row // 4 for row in batch}) == 1 for batch in whole)


def test_no_kto_row_is_paired_with_the_prompt_of_its_own_tree():
    draw = random.Random(0)
    for seed in range(200):
        kinds = draw.randrange(2, 9)
        trees = [str(min(draw.randrange(kinds), draw.randrange(kinds))) for _ in range(draw.randrange(2, 60))]
        size = draw.randrange(2, 20)
        prompts = [draw.choice("abcdef") for _ in trees]
        batches = mixed_batches(trees, prompts, size, seed)
        for batch in batches:
            assert all(trees[row] != trees[batch[place - 1]] for place, row in enumerate(batch))
        assert all(len(batch) == size for batch in batches[:-1])
        rest = len(trees) % size
        halves = len(trees) // size * (size // 2) + rest // 2
        if max(Counter(trees).values()) <= halves and rest != 1:
            assert sum(map(len, batches)) == len(trees)


def test_of_a_tree_that_outnumbers_all_others_rows_are_left_out():
    trees = ["large"] * 9 + ["small"] * 2
    batches = mixed_batches(trees, trees, 4, 0)
    assert Counter(trees[row] for batch in batches for row in batch) == {"large": 2, "small": 2}
    assert mixed_batches(["only"] * 5, ["same"] * 5, 4, 0) == []


def test_kto_rows_of_trees_that_begin_alike_are_not_paired_where_others_can_be():
    trees = [str(row // 2) for row in range(16)]
    prompts = [str(row) if row % 4 else "opening" for row in range(16)]
    for seed in range(20):
        (batch,) = mixed_batches(trees, prompts, 16, seed)
        assert all(prompts[row] != prompts[batch[place - 1]] for place, row in enumerate(batch))
        assert all(trees[row] != trees[batch[place - 1]] for place, row in enumerate(batch))
