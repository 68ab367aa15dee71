"""Tiny random models of every supported family, written to a folder as the hub would lay them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

WIDTH, BLOCKS, WINDOW = 32, 4, 256

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Comb jellies eat plankton, and they swim with rows of cilia.",
    "What is the capital of France? The capital of France is Paris.",
    "Question: Who lives in the house?\nAnswer: The cat lives in the house with a dog.",
    "A user asks the assistant, and the assistant answers the user.",
    "Numbers 0 1 2 3 4 5 6 7 8 9 and words such as naïve, café and 日本語 appear too.",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
}

# family -> (config.model_type, its settings). Windows and patterns are small, so that both kinds of
# attention take part in a short test.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_COMMON, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", _COMMON),
    "qwen3": ("qwen3", {**_COMMON, "head_dim": 8}),
    "gemma2": (
        "gemma2",
        {
            **_COMMON,
            "head_dim": 8,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            # Strong enough that a forgotten soft cap shows in the logits.
            "final_logit_softcapping": 0.5,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            **_COMMON,
            "head_dim": 8,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"] * (BLOCKS // 2),
        },
    ),
    "mistral": ("mistral", {**_COMMON, "sliding_window": 16}),
    "phi3": ("phi3", _COMMON),
    "gpt2": ("gpt2", {"n_embd": WIDTH, "n_layer": BLOCKS, "n_head": 4, "n_positions": WINDOW}),
    "gpt_neox": ("gpt_neox", {k: v for k, v in _COMMON.items() if k != "num_key_value_heads"}),
}


def tiny_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with eos, pad and end-of-turn tokens; reads and writes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=WINDOW,
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_model(family: str, seed: int = 0, **settings: Any) -> torch.nn.Module:
    """A random causal LM of that family: 4 blocks, width 32, window 256, vocabulary of `tiny_tokenizer`."""
    tokenizer = tiny_tokenizer()
    model_type, fields = FAMILIES[family]
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**fields, **settings},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float()
        # The usual 0.02 gives almost the same logits for every token: ties, and no sharp tests.
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
            else:
                torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.1)
    return model.eval()


def make_tiny(family: str, tmp_path: Path, seed: int = 0, chat: bool | None = None, **settings: Any) -> Path:
    """Write a tiny random model and its tokenizer to ``tmp_path/<family>`` and return that folder.

    ``chat``: whether the tokenizer has a chat template; by default llama alone has one.
    """
    folder = Path(tmp_path) / family
    tiny_model(family, seed, **settings).save_pretrained(folder)
    tiny_tokenizer(chat=family == "llama" if chat is None else chat).save_pretrained(folder)
    return folder
