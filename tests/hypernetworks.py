"""Hypernetworks for tests: the parity fixture, small random ones, and files in the published format."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from continual_learning.doc2lora import Hypernetwork, HypernetworkConfig
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.generated_lora import Generated
from continual_learning.strategies.methods.doc2lora.perceiver import Heads

FIXTURE = Path(__file__).parent / "fixtures" / "d2l_checkpoint"


def expected() -> dict[str, Tensor]:
    """What the reference implementation computed from the fixture."""
    return load_file(FIXTURE / "expected.safetensors")


def expected_lora(kind: str) -> Generated:
    """Its ``generated`` or ``combined`` matrices."""
    meta = json.loads((FIXTURE / "meta.json").read_text(encoding="utf-8"))
    found = expected()
    return {m: {half: found[f"{kind}.{m}.{half}"] for half in "AB"} for m in meta["target_modules"]}


def fixture_base() -> BaseModel:
    """The fixture's tiny base, with a tokenizer of one token a character that fits its vocabulary of 97."""
    characters = [chr(code) for code in range(32, 126)]
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=2048
    )
    fast.chat_template = (
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    model = AutoModelForCausalLM.from_pretrained(FIXTURE / "base", dtype=torch.float32)
    return BaseModel("tiny-random-llama", model, fast)


def config_for(base: BaseModel, **changes: Any) -> HypernetworkConfig:
    """Of a small hypernetwork for a base whose MLPs end in ``down_proj``."""
    inner = int(base.model.config.intermediate_size)
    fields: dict[str, Any] = {
        "base_name": base.name,
        "context_width": base.hidden_size,
        "modules": {"down_proj": (inner, base.hidden_size)},
        "layers": tuple(range(base.block_count)),
        "rank": 2,
        "multiplier": 3.0,
        "latent_width": 16,
        "latents": 3,
        "encoder": (True, True),
        "heads": Heads(4, 2, 8),
        "head_blocks": 1,
    }
    return HypernetworkConfig(**{**fields, **changes})


def random_hypernetwork(config: HypernetworkConfig, seed: int = 0, scale: float = 1.0) -> Hypernetwork:
    """Nothing in it is zero: scalers, biases and norms are random too, so that a part left out shows."""
    network = Hypernetwork.initialised(config, seed)
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if name.startswith(("bias_", "scaler_")):
                parameter.copy_(scale * noise)
            else:
                parameter.add_(0.1 * noise)
    return network.eval()


def base_adapter_network(base: BaseModel, seed: int = 0, **changes: Any) -> Hypernetwork:
    """A random hypernetwork whose adapters change what the base says."""
    return random_hypernetwork(config_for(base, **changes), seed)


@contextmanager
def published_classes(hypernet: str = "ctx_to_lora.modeling.hypernet") -> Iterator[dict[str, type]]:
    """Classes under the names that published files use, importable while pickling and gone after."""
    names = {
        "CtxEncoderArguments": "ctx_to_lora.configs",
        "AggregatorConfig": "ctx_to_lora.modeling.aggregator",
        "HypernetConfig": hypernet,
    }
    modules = [m for home in set(names.values()) for m in (home, *_parents(home))]
    before = {module: sys.modules.get(module) for module in modules}
    made: dict[str, type] = {}
    try:
        for module in modules:
            sys.modules[module] = types.ModuleType(module)
        for name, home in names.items():
            made[name] = type(name, (), {"__module__": home})
            setattr(sys.modules[home], name, made[name])
        yield made
    finally:
        for module, old in before.items():
            if old is None:
                del sys.modules[module]
            else:
                sys.modules[module] = old


def write_published(
    network: Hypernetwork,
    path: Path,
    hypernet: str = "ctx_to_lora.modeling.hypernet",
    settings: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor | None] | None = None,
    prefix: str = "",
) -> Path:
    """Write a network as its makers would. ``settings`` and ``tensors`` replace parts of it; None leaves one out."""
    from peft import LoraConfig

    config = network.config
    content: dict[str, Any] = {prefix + k: v.detach().clone() for k, v in network.state_dict().items()}
    if len(config.modules) == 1:
        content[f"{prefix}head.weight"] = content[f"{prefix}head.weight"].squeeze(1)
    for name, tensor in (tensors or {}).items():
        content.pop(prefix + name, None)
        if tensor is not None:
            content[prefix + name] = tensor
    fields = {
        "use_bias": config.use_bias,
        "per_rank_gen": True,
        "extra_modules": None,
        "layer_indices": torch.tensor(config.layers),
        "lora_config": LoraConfig(r=config.rank, lora_alpha=config.multiplier, target_modules=list(config.modules)),
        **(settings or {}),
    }
    depth = "layer_idx" if config.context_encoder == "early_exit" else "ctx_encoder_last_layer"
    with published_classes(hypernet) as classes:
        settings_made = _made(classes["HypernetConfig"], fields)
        block = config.encoder.index(True, 1) if True in config.encoder[1:] else len(config.encoder)
        aggregator = {"aggregator_type": "perceiver", "num_self_attn_per_block": block - 1}
        settings_made.aggregator_config = _made(classes["AggregatorConfig"], aggregator)
        encoder = {"ctx_encoder_type": config.context_encoder, depth: config.context_blocks}
        content |= {
            "base_model_name_or_path": config.base_name,
            "hypernet_config": settings_made,
            "ctx_encoder_args": _made(classes["CtxEncoderArguments"], encoder),
        }
        torch.save(content, path)
    return path


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _made(cls: type, fields: Mapping[str, Any]) -> Any:
    made = cls()
    made.__dict__.update(fields)
    return made
