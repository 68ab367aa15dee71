"""Hugging Face folders and names of the hub: whether a folder holds a language model, and reading it."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from continual_learning.errors import ModelError, ModelNotFoundError, first_line
from continual_learning.model.embedded import EMBEDDED
from continual_learning.model.pretrained import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CONTINUES = ("ForCausalLM", "LMHeadModel")
_READS_IMAGES = ("vision_config", "audio_config", "image_token_id", "image_size")


def check_folder(folder: Path, name: str) -> None:
    """Raise ModelNotFoundError or ModelError, saying what it is, unless the folder is one of a language model."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"folder {name!r} is an adapter without its base{_base_of(folder)}; expected a whole model: give the "
                "base, or `continual-learning memory import --peft` for the adapter"
            )
        raise ModelNotFoundError(
            f"folder {name!r} holds no config.json; expected a Hugging Face model folder, or one with one .gguf file"
        )
    try:
        config = json.loads(config_file.read_text("utf-8"))
        architectures = [str(a) for a in config.get("architectures") or ()]
        model_type = str(config.get("model_type", "unknown"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{config_file} cannot be read ({first_line(error)}); expected a JSON object") from None
    called = architectures[0] if architectures else model_type
    if any(config.get(key) for key in _READS_IMAGES):
        raise ModelError(
            f"model {name!r} is one of images or sound ({called}); expected a language model of text alone: its text "
            "part as a GGUF file can be used"
        )
    if any(a.endswith(_CONTINUES) for a in architectures):
        return
    if config.get("is_encoder_decoder"):
        raise ModelError(f"model {name!r} is an encoder-decoder ({called}); expected one that continues a text")
    if _is_encoder(model_type, config):
        raise ModelError(
            f"model {name!r} is an encoder ({called}): it makes vectors and writes no text; expected a causal language "
            "model, such as Qwen/Qwen2.5-0.5B"
        )


def read_folder(folder: Path, name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a Hugging Face folder. Raises ModelError for one that is not complete."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel
    info: dict[str, Any]
    try:
        with quiet_transformers():
            model, info = auto.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"model {name!r} cannot be loaded: expected config.json, safetensors weights and a tokenizer in {folder}; "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    # Transformers fills missing weights with random numbers and only prints a warning.
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelError(
            f"model {name!r} lacks {len(missing)} of its weights ({missing[0]}, …); expected a complete causal "
            f"language model in {folder}"
        )
    return model, tokenizer


def download_from_hub(name: str) -> Path:
    """The hub's snapshot of a model, downloaded if it is not cached yet. Weights as safetensors only: no pickle."""
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md"],
                ignore_patterns=["*/*", "consolidated*"],
            )
        )
    except Exception as error:  # the hub client lets the errors of its HTTP library through, which changes
        near = difflib.get_close_matches(name.lower(), EMBEDDED, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "check the name and the network"
        raise ModelNotFoundError(
            f"model {name!r} was not found: expected {', '.join(EMBEDDED)}, a GGUF file, a local folder or a name on "
            f"the Hugging Face hub ({type(error).__name__}: {first_line(error)}); {hint}"
        ) from error


def _base_of(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):  # the name is a help; without it the message is as right
        base = None
    return f", {base!r}" if base else ""


def _is_encoder(model_type: str, config: dict[str, Any]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder")
