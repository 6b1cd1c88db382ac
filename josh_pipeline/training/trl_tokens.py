"""TRL's trainers on rows that are tokens already: what was sampled is not rendered and tokenised once more."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOTrainer, KTOTrainer, SFTTrainer


class _Tokens:
    """Takes a dataset as it is."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class TokenKtoTrainer(_Tokens, KTOTrainer):
    """KTO on ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``."""


class TokenDpoTrainer(_Tokens, DPOTrainer):
    """DPO on ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""


class TokenSftTrainer(_Tokens, SFTTrainer):
    """SFT on conversations, each a list of sequences: ``input_ids`` and ``labels``, and their ``length`` together."""

    data_collator: Any

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        padded = self.data_collator

        def collated(conversations: Sequence[dict[str, Any]]) -> Any:
            columns = ("input_ids", "labels")
            pairs = (pair for one in conversations for pair in zip(*(one[key] for key in columns), strict=True))
            return padded([dict(zip(columns, pair, strict=True)) for pair in pairs])

        self.data_collator = collated
