"""A tokenizer of single bytes for every chat template that TRL ships, with the tokens that end a turn in it."""

import json
from pathlib import Path

import torch
from tiny_tokens import SPECIAL, VOCABULARY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl.chat_template_utils import _CHAT_TEMPLATES_DIR as SHIPPED

TEMPLATES = sorted(path.stem for path in SHIPPED.glob("*.jinja") if not path.stem.endswith("_training"))
ENDS = {
    "cohere": ["<|END_OF_TURN_TOKEN|>"],
    "deepseek": ["<｜end▁of▁sentence｜>"],
    "diffusion_gemma": ["<turn|>", "<|tool_response>"],
    "gemma4": ["<turn|>", "<|tool_response>"],
    "gemma": ["<end_of_turn>"],
    "glm4moe": ["<|user|>", "<|observation|>"],
    "gptoss": ["<|return|>", "<|call|>"],
    "llama3": ["<|eot_id|>"],
    "muse": ["<|eot|>", "<|call|>"],
    "phi3": ["<|end|>"],
}
"""What the published models stop at, by the beginning of the template's name; the others at ``<|im_end|>``."""


def template_folder(folder: Path, name: str) -> Path:
    """Write the tokenizer of a model with that template."""
    ends = next((ends for start, ends in ENDS.items() if name.startswith(start)), ["<|im_end|>"])
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[0], eos_token=ends[0],
        additional_special_tokens=[SPECIAL[1], *ends[1:]],
    )  # fmt: skip
    fast.chat_template = (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")
    fast.save_pretrained(folder)
    eos = fast.convert_tokens_to_ids(ends)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    return folder


def tiny_qwen3(folder: Path) -> Path:
    """Write a random two-layer Qwen3 with its own chat template, which leaves old thoughts out."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=8192,
            pad_token_id=0, eos_token_id=2, bos_token_id=0,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return template_folder(folder, "qwen3")
