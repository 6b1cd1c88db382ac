"""Training on a tiny model: what carries loss, what is held against what, what comes out."""

from pathlib import Path

import pytest
import torch
from tiny_model import tiny_model

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.dialogue.demonstrations import Demonstration
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side, SideLabel
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import load_merged, merge
from josh_pipeline.settings import ColdStartSettings
from josh_pipeline.settings.training import DpoSettings, KtoSettings, LoraSettings, SftSettings, TrainingBase
from josh_pipeline.training.job import TrainingResult
from josh_pipeline.training.run import train, train_cold_start
from josh_pipeline.training.tokens import IGNORED, RowTokenizer

LORA = LoraSettings(r=2, alpha=4)


def source(tree: int) -> Provenance:
    return Provenance("goal", f"rollout-{tree}", "policy")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def conversation(number: int) -> Conversation:
    return (
        Message("system", "Help."),
        Message("user", f"find {number}"),
        Message("assistant", f"found {number}"),
        Message("user", "thanks"),
        Message("assistant", "bye"),
    )


def sft_row(number: int, train: tuple[bool, ...] = (False, False, True, False, True)) -> Row:
    messages = conversation(number)
    said = tuple(Said(message, loss) for message, loss in zip(messages[1:], train[1:], strict=True))
    return Row("sft", source(number), (), messages[:1], (Side(said, "desirable"),))


def message_side(text: str, label: SideLabel = "desirable") -> Side:
    return Side((Said(Message("assistant", text), train=True),), label)


def kto_rows(prompts: int, completions: int = 2) -> list[Row]:
    labels: tuple[SideLabel, ...] = ("desirable", "undesirable")
    return [
        Row(
            "kto",
            source(number),
            (),
            conversation(number)[:2],
            (message_side(f"say {number} {turn}", labels[turn > 0]),),
        )
        for number in range(prompts)
        for turn in range(completions)
    ]


def dpo_rows(prompts: int) -> list[Row]:
    sides = (message_side("good"), message_side("bad", "undesirable"))
    return [Row("dpo", source(number), (), conversation(number)[:2], sides) for number in range(prompts)]


def trained(
    base: Path, rows: list[Row], settings: TrainingBase, out: Path, adapter: Path | None = None, seed: int = 0
) -> TrainingResult:
    return train(rows, base, adapter, out, settings, seed, SilentProgress(), "none")


def test_only_the_chosen_assistant_messages_carry_loss(base: Path):
    renderer = ChatRenderer(base)
    (example,) = RowTokenizer(renderer).tokens(sft_row(1, (False, False, False, False, True))).examples
    assert renderer.decode([t for t in example.labels if t != IGNORED]) == "bye"


def test_a_row_over_the_limit_is_refused_rather_than_cut(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"longer than training\.max_tokens = 20"):
        trained(base, [sft_row(1)], SftSettings(max_tokens=20, processes=0), tmp_path)


def test_a_cold_start_lowers_the_loss_on_its_demonstrations(base: Path, tmp_path: Path):
    demonstrations = [Demonstration("g", "d", conversation(n), 1.0) for n in range(8)]
    settings = ColdStartSettings(conversations=8, epochs=8, learning_rate=2e-2)
    result = train_cold_start(
        demonstrations, base, tmp_path / "a", settings, 0, SilentProgress(), SftSettings(processes=0)
    )
    assert result.curve[-1]["loss"] < result.curve[0]["loss"] - 0.05
    assert result.rows == 8 and result.tokens > 0


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        ([sft_row(n) for n in range(4)], SftSettings(epochs=1, lora=LORA, processes=0)),
        (kto_rows(4), KtoSettings(epochs=1, learning_rate=1e-3, lora=LORA, processes=0)),
        (dpo_rows(4), DpoSettings(epochs=1, lora=LORA, processes=0)),
    ],
    ids=["sft", "kto", "dpo"],
)
def test_each_method_makes_an_adapter_and_equal_seeds_make_equal_ones(
    base: Path, tmp_path: Path, rows: list[Row], settings: TrainingBase
):
    first = trained(base, rows, settings, tmp_path / "first")
    again = trained(base, rows, settings, tmp_path / "again")
    other = trained(base, rows, settings, tmp_path / "other", seed=1)
    assert first.digest == again.digest != other.digest
    assert first.curve and all("loss" in point for point in first.curve)
    assert sorted(p.name for p in first.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("reference", ["base", "previous"])
@pytest.mark.parametrize("start", ["base", "previous"])
def test_kto_goes_on_from_and_refers_to_what_the_settings_say(base: Path, tmp_path: Path, start: str, reference: str):
    one = trained(
        base,
        [sft_row(n) for n in range(4)],
        SftSettings(epochs=4, learning_rate=0.05, lora=LORA, processes=0),
        tmp_path / "1",
    )
    settings = KtoSettings(
        epochs=1,
        learning_rate=1e-9,
        lora=LORA,
        processes=0,
        start=start,
        reference=reference,
        warmup=0,  # type: ignore[arg-type]
    )
    two = trained(base, kto_rows(4), settings, tmp_path / "2", adapter=one.adapter)
    started = load_merged(base, one.adapter if start == "previous" else None)
    ended = load_merged(base, two.adapter)
    prompt = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(started(prompt).logits, ended(prompt).logits, rtol=1e-2, atol=1e-2)
    # Where start and reference differ, the first log-ratio is not zero, and the rewards show it.
    reward = two.curve[0].get("rewards/chosen", 0.0)
    assert (abs(reward) > 1e-6) == (start != reference)


def test_kto_with_a_single_row_says_what_to_do(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match="of both labels"):
        trained(base, kto_rows(1, 1), KtoSettings(lora=LORA, processes=0), tmp_path / "a")


@pytest.mark.parametrize("packed", [True, False])
def test_a_training_whose_loss_is_no_number_is_refused(base: Path, tmp_path: Path, packed: bool):
    rows: list[Row] = [sft_row(number) for number in range(8)]
    wild = SftSettings(
        learning_rate=1e20, schedule="constant", warmup=0.0, epochs=3, packed=packed, lora=LORA, processes=0
    )
    with pytest.raises(UserError, match="diverged"):
        trained(base, rows, wild, tmp_path)


def test_a_merged_checkpoint_answers_as_base_and_adapter_do(base: Path, tmp_path: Path):
    result = trained(
        base,
        [sft_row(n) for n in range(4)],
        SftSettings(epochs=4, learning_rate=0.05, lora=LORA, processes=0),
        tmp_path / "a",
    )
    folder = merge(base, result.adapter, tmp_path / "merged")
    assert merge(base, result.adapter, folder) == folder
    prompt = torch.tensor([[5, 6, 7, 8]])
    merged, plain = load_merged(folder, None)(prompt).logits, load_merged(base, None)(prompt).logits
    torch.testing.assert_close(merged, load_merged(base, result.adapter)(prompt).logits)
    assert not torch.allclose(merged, plain)
    assert ChatRenderer(folder).template_digest == ChatRenderer(base).template_digest


def test_without_an_adapter_the_base_itself_is_served(base: Path, tmp_path: Path):
    assert merge(base, None, tmp_path / "merged") == base


def test_a_count_is_what_training_counts(base: Path):
    tokenizer = RowTokenizer(ChatRenderer(base))
    for row in (sft_row(1), *kto_rows(1), *dpo_rows(1)):
        assert tokenizer.length(row) == max(len(one.input_ids) for one in tokenizer.tokens(row).examples)


def test_rows_of_another_method_are_refused(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"not harvested for training\.method sft"):
        trained(base, dpo_rows(2), SftSettings(processes=0), tmp_path)


def test_kto_rows_of_one_label_are_refused_where_batches_leave_the_other_out(base: Path, tmp_path: Path):
    rows = [row for row in kto_rows(4) if row.good]
    with pytest.raises(UserError, match="KTO needs rows of both labels"):
        trained(base, rows, KtoSettings(processes=0, lora=LORA), tmp_path)
