"""Reading a GGUF file with Transformers, and checking what comes out. Imports Transformers."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from continual_learning.errors import ModelError, first_line
from continual_learning.model.gguf_config import complete_config
from continual_learning.model.gguf_files import Header
from continual_learning.model.pretrained import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# In Transformers' tables, but no language models that continue a text.
_NO_ARCHITECTURES = {"general", "tokenizer", "t5", "umt5", "t5encoder"}
# Ways to split a text before byte pairs are merged (tokenizer.ggml.pre) that Transformers knows, and those for which
# its default, that of GPT-2, gives the same tokens: where digits are split first, no merge joins them.
_SPLITS = set(
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe tekken qwen2 deepseek-r1-qwen "
    "kormo megrez qwen35 gpt-4o llama4 kanana2 talkie minimax-m2 "
    "default gpt-2 gpt2 smollm starcoder refact command-r codeshell phi-2 mpt olmo".split()
)
# Architectures whose every weight has a place in the model's class.
_COMPARED = {"llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"}
# Positions, which the configuration has (`gguf_config`).
_NOT_WEIGHTS = ("rope_freqs.weight", "attn_rot_embd.weight", "rope.freqs")
_PROBE = "The 12 cats (and a dog) didn't see it,\n  as 3,456 birds flew by."


def readable_architectures() -> list[str]:
    """The architectures of GGUF files that the installed Transformers reads, as it names them."""
    legacy: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    names = set(legacy.GGUF_SUPPORTED_ARCHITECTURES)
    with contextlib.suppress(ImportError):  # a second reader, in newer versions
        names |= set(importlib.import_module("transformers.integrations.gguf").GGUF_CONFIG_ARCHS)
    return sorted(names - _NO_ARCHITECTURES)


def read_with_transformers(header: Header, fetch_again: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in fp32, free of what marks it as quantised, and its tokenizer.

    Raises ModelError for an architecture that Transformers does not read, for a file that it cannot read, for one that
    lacks weights, and for a tokenizer that is not the file's.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    path = header.path
    readable = readable_architectures()
    if _plain(header.architecture) not in map(_plain, readable):
        raise ModelError(
            f"{path} is of architecture {header.architecture!r}, which Transformers does not read from GGUF; expected "
            f"one of {', '.join(readable)}: give such a file, or the model's Hugging Face folder"
        )
    _check_split_rule(header)
    auto: Any = AutoModelForCausalLM
    try:
        with quiet_transformers(), _one_gguf_reader(), _names_read() as read:
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            complete_config(config, header)
            model, info = auto.from_pretrained(
                path.parent, config=config, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # the GGUF reader raises arbitrary errors for a broken file
        raise ModelError(
            f"{path} cannot be read by Transformers ({type(error).__name__}: {first_line(error)}); {fetch_again}"
        ) from error
    # Transformers fills what is missing with random numbers and only prints a warning.
    lacking = sorted(map(str, info["missing_keys"])) + sorted(map(str, info["mismatched_keys"]))
    if lacking:
        raise ModelError(
            f"{path} lacks {len(lacking)} of its weights ({lacking[0]}, …), or holds them in another shape; expected a "
            f"complete model of architecture {header.architecture!r}; {fetch_again}"
        )
    _check_all_read(header, read)
    _check_tokenizer(header, tokenizer, model.get_input_embeddings().weight.shape[0])
    _forget_quantisation(model)
    return model, tokenizer


def _check_all_read(header: Header, read: set[str]) -> None:
    """Raise ModelError for weights that would be left out without a word, such as biases that the class has no use for.

    ``read`` is empty for Transformers' second reader, which raises by itself.
    """
    left = [t.name for t in header.tensors if t.name not in read and not t.name.endswith(_NOT_WEIGHTS)]
    if read and left and header.architecture in _COMPARED:
        raise ModelError(
            f"{header.path} holds {len(left)} weights that Transformers does not read for architecture "
            f"{header.architecture!r} ({left[0]}, …), and would compute something else; give its "
            "Hugging Face folder"
        )


def _check_split_rule(header: Header) -> None:
    split = header.fields.get("tokenizer.ggml.pre", "default")
    if header.fields.get("tokenizer.ggml.model") == "gpt2" and split not in _SPLITS:
        raise ModelError(
            f"{header.path}: its tokenizer splits text by the rule {split!r} (tokenizer.ggml.pre), which Transformers "
            "does not read from GGUF; give the model's Hugging Face folder"
        )


def _check_tokenizer(header: Header, tokenizer: Any, rows: int) -> None:
    """Raise ModelError for a tokenizer with other tokens than the file's, or that loses characters."""
    expected = header.tokens
    few = range(0, len(expected), max(1, len(expected) // 1000))
    found = tokenizer.convert_ids_to_tokens(list(few))
    spelled = {"▁", " ", "Ġ"}  # blanks are spelled in several ways
    other = [
        number
        for number, token in zip(few, found, strict=True)
        if token != expected[number] and not (token and set(token) <= spelled) and token.isascii()
    ]
    if other or not len(expected) <= len(tokenizer) <= max(rows, len(expected)):
        what = f"token {other[0]} is {found[few.index(other[0])]!r}" if other else f"it has {len(tokenizer)} tokens"
        wanted = f"{expected[other[0]]!r}" if other else f"{len(expected)}"
        raise ModelError(
            f"{header.path}: Transformers makes another tokenizer of it than the file's ({what}, expected {wanted}); "
            "give the model's Hugging Face folder"
        )
    again = tokenizer.decode(tokenizer(_PROBE, add_special_tokens=False)["input_ids"], skip_special_tokens=False)
    if again.strip() != _PROBE:
        raise ModelError(
            f"{header.path}: the tokenizer that Transformers makes of it gives {again[:40]!r}… for {_PROBE[:40]!r}…; "
            "expected the same text: give the model's Hugging Face folder"
        )


def _forget_quantisation(model: Any) -> None:
    """A model that remembers it came from GGUF refuses to be saved."""
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    for config in (model.config, getattr(model, "generation_config", None)):
        if config is not None and "quantization_config" in vars(config):
            del config.quantization_config


def _plain(architecture: str) -> str:
    return architecture.replace("-", "").replace("_", "")


@contextlib.contextmanager
def _names_read() -> Iterator[set[str]]:
    """The names of tensors that Transformers has a use for, filled while it reads a file."""
    legacy: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    original = legacy.get_gguf_hf_weights_map
    names: set[str] = set()

    def recorded(*given: Any, **options: Any) -> Any:
        found = original(*given, **options)
        names.update(found)
        return found

    legacy.get_gguf_hf_weights_map = recorded
    try:
        yield names
    finally:
        legacy.get_gguf_hf_weights_map = original


@contextlib.contextmanager
def _one_gguf_reader() -> Iterator[None]:
    """Parse a GGUF file once. Transformers does it three times (config, weights, tokenizer): 10 s more.

    Newer versions read the tokenizer by themselves; the vocabulary is then left out of what is walked through, three
    times too, which takes half a minute for 262,144 tokens.
    """
    gguf: Any = importlib.import_module("gguf")
    reader = gguf.GGUFReader
    elsewhere = importlib.util.find_spec("transformers.integrations.gguf") is not None

    @functools.cache
    def read(path: Any) -> Any:
        found = reader(path)
        for name in ("tokens", "scores", "token_type", "merges") if elsewhere else ():
            found.fields.pop(f"tokenizer.ggml.{name}", None)
        return found

    gguf.GGUFReader = read
    try:
        yield
    finally:
        gguf.GGUFReader = reader
