"""The tokens of the tiny model: single bytes, and what opens and ends a turn."""

from tokenizers import pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
VOCABULARY = {token: index for index, token in enumerate([*SPECIAL, *sorted(BYTES.alphabet())])}


def tiny_ids(text: str, *, whole: bool = True) -> tuple[int, ...]:
    """Tokens of an answer of such a model: a byte each; a whole one ends its turn."""
    written = "".join(part for part, _ in BYTES.pre_tokenize_str(text))
    return tuple(VOCABULARY[one] for one in written) + (VOCABULARY["<|im_end|>"],) * whole
