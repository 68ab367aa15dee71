"""What each model family calls its parts. The only file that names architectures.

Tensor names carry their shape: D = hidden size, I = intermediate size, F = D, I or 2·I, N = any
number of tokens; ``...`` stands for any leading axes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import UnsupportedModelError

K = TypeVar("K")


class BlockLayout(NamedTuple):
    """Names of the parts of a block that computes ``x + attention(norm(x))``, ``x + mlp(norm(x))``.

    Norms are RMS norms, positions are rotary over all channels of a head, attention is to all earlier tokens or to a
    window of the last ones.
    """

    attention: str
    query: str
    key: str
    value: str
    output: str
    before_attention: str
    """The norm before the attention."""
    before_mlp: str
    """The norm before the MLP."""
    query_norm: str
    key_norm: str
    """Norms of each head's queries and keys, if the family has them."""
    after_attention: str | None = None
    after_mlp: str | None = None
    """Norms of what attention and MLP add to x, if the family has them."""
    epsilon: str = "variance_epsilon"
    """Field of a norm with the number that it adds to the mean square."""
    norm_offset: float = 0.0
    """What a norm adds to its weight; if it adds anything, it rounds to the model's dtype only after multiplying."""
    rotary_kinds: bool = False
    """Whether the rotary positions are asked for by the kind of block."""
    score_softcap: str | None = None
    """Field of an attention with the soft cap of its scores."""


@dataclass(frozen=True)
class Family:
    """Where a family keeps its blocks and their MLPs, as dotted paths in the causal LM."""

    name: str
    blocks_path: str
    """Path of the list of transformer blocks."""
    mlp_name: str
    """Name of the MLP inside a block."""
    logit_softcap: str | None = None
    """Field of the config with the soft cap c of the logits, c·tanh(logits / c); None: logits are used unchanged."""
    block_layout: BlockLayout | None = None
    """Layout of the blocks; None if they are not of that kind."""


_LLAMA_LIKE = ("model.layers", "mlp")
_PRE_NORM = BlockLayout(
    attention="self_attn",
    query="q_proj",
    key="k_proj",
    value="v_proj",
    output="o_proj",
    before_attention="input_layernorm",
    before_mlp="post_attention_layernorm",
    query_norm="q_norm",
    key_norm="k_norm",
)
_FOUR_NORMS = _PRE_NORM._replace(
    before_mlp="pre_feedforward_layernorm",
    after_attention="post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
    epsilon="eps",
    norm_offset=1.0,
)
_GEMMA2 = _FOUR_NORMS._replace(score_softcap="attn_logit_softcapping")
_GEMMA3 = _FOUR_NORMS._replace(rotary_kinds=True)
_FINAL_CAP = "final_logit_softcapping"
_FAMILIES: dict[str, Family] = {
    "llama": Family("llama", *_LLAMA_LIKE, block_layout=_PRE_NORM),  # SmolLM2 too
    "qwen2": Family("qwen2", *_LLAMA_LIKE, block_layout=_PRE_NORM),  # Qwen2.5 too
    "qwen3": Family("qwen3", *_LLAMA_LIKE, block_layout=_PRE_NORM),
    "gemma2": Family("gemma2", *_LLAMA_LIKE, logit_softcap=_FINAL_CAP, block_layout=_GEMMA2),
    "gemma3_text": Family("gemma3", *_LLAMA_LIKE, logit_softcap=_FINAL_CAP, block_layout=_GEMMA3),
    "mistral": Family("mistral", *_LLAMA_LIKE, block_layout=_PRE_NORM),
    "phi3": Family("phi3", *_LLAMA_LIKE),
    "gpt2": Family("gpt2", "transformer.h", "mlp"),
    "gpt_neox": Family("gpt_neox", "gpt_neox.layers", "mlp"),
}


class MLPLayout(NamedTuple):
    """Names of the parts of an MLP module. With ``fused``, ``up`` holds gate rows first, then up rows."""

    gate: str | None
    up: str
    down: str
    activation: str
    fused: bool = False


_LAYOUTS = (
    MLPLayout("gate_proj", "up_proj", "down_proj", "act_fn"),  # Llama, Qwen, Gemma, Mistral
    MLPLayout(None, "gate_up_proj", "down_proj", "activation_fn", fused=True),  # Phi-3
    MLPLayout(None, "c_fc", "c_proj", "act"),  # GPT-2
    MLPLayout(None, "dense_h_to_4h", "dense_4h_to_h", "act"),  # GPT-NeoX
)


@dataclass(frozen=True)
class MLPParts:
    """A block's MLP as a function: ``down_w @ (act(gate_w @ x + gate_b) * (up_w @ x + up_b)) + down_b``.

    Without a gate (``gate_w`` is None) it is ``down_w @ act(up_w @ x + up_b) + down_b``. Rows of
    ``gate_w`` and ``up_w`` and columns of ``down_w`` belong to one neuron. All tensors are views of
    the module's own parameters: never write to them.
    """

    gate_w: Tensor | None
    """[I, D], or None for an MLP without a gate."""
    gate_b: Tensor | None
    """[I] or None."""
    up_w: Tensor
    """[I, D]."""
    up_b: Tensor | None
    """[I] or None."""
    down_w: Tensor
    """[D, I]."""
    down_b: Tensor | None
    """[D] or None."""
    activation: Callable[[Tensor], Tensor]

    @property
    def intermediate_size(self) -> int:
        """I, the number of neurons."""
        return self.up_w.shape[0]

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.up_w.shape[1]

    def neurons(self, hidden: Tensor) -> Tensor:
        """Neuron activations ``[..., I]`` of inputs ``[..., D]``: what the down projection reads."""
        up = F.linear(hidden, self.up_w, self.up_b)
        if self.gate_w is None:
            return self.activation(up)
        return self.activation(F.linear(hidden, self.gate_w, self.gate_b)) * up

    def __call__(self, hidden: Tensor) -> Tensor:
        """Outputs ``[..., D]`` of inputs ``[..., D]``; equal to the module's up to rounding."""
        return F.linear(self.neurons(hidden), self.down_w, self.down_b)


def find_family(model: nn.Module, use_table: bool = True) -> Family:
    """The family of a Hugging Face causal LM: by its ``config.model_type``, else by its structure.

    ``use_table=False`` goes by structure alone. Raises UnsupportedModelError listing what was tried.
    """
    model_type = str(getattr(getattr(model, "config", None), "model_type", "unknown"))
    tried: list[str] = []
    if use_table:
        known = _FAMILIES.get(model_type)
        if known is None:
            tried.append(f"model_type {model_type!r} is not among {', '.join(_FAMILIES)}")
        else:
            try:
                first_block = model.get_submodule(known.blocks_path + ".0")
                mlp_parts(first_block.get_submodule(known.mlp_name))
                return known
            except (AttributeError, UnsupportedModelError) as error:
                tried.append(f"{known.blocks_path}.0.{known.mlp_name} of family {known.name!r}: {error}")
    return _find_by_structure(model, model_type, tried)


def _find_by_structure(model: nn.Module, model_type: str, tried: list[str]) -> Family:
    lists = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        tried.append("no nn.ModuleList of blocks in it")
    # The decoder's stack is the longest list; ties go to the outermost.
    for path, blocks in sorted(lists, key=lambda item: (-len(item[1]), item[0].count("."))):
        classes = sorted({type(block).__name__ for block in blocks})
        if len(classes) > 1:
            tried.append(f"{path}: blocks of different classes ({', '.join(classes)})")
            continue
        found, reasons = [], []
        for name, child in blocks[0].named_children():
            try:
                mlp_parts(child)
                found.append(name)
            except UnsupportedModelError as error:
                reasons.append(f"{name}: {error}")
        if len(found) == 1:
            return Family(model_type, path, found[0], logit_softcap=_FINAL_CAP)
        why = f"{len(found)} MLPs ({', '.join(found)})" if found else f"no MLP ({'; '.join(reasons) or 'no children'})"
        tried.append(f"{path} ({len(blocks)} x {classes[0]}): expected one child with an MLP, found {why}")
    raise UnsupportedModelError(
        f"model of type {model_type!r} cannot be patched: expected a list of blocks with one MLP each, "
        f"tried: {' | '.join(tried)}; use one of the families {', '.join(f.name for f in _FAMILIES.values())}"
    )


def softcap(family: Family, config: Any) -> float | None:
    """The soft cap of the logits under this config, or None."""
    value = getattr(config, family.logit_softcap, None) if family.logit_softcap else None
    return None if value is None else float(value)


def mlp_layout(mlp: nn.Module) -> MLPLayout:
    """Names of the MLP's parts. Raises UnsupportedModelError when it does not compute what `MLPParts` describes."""
    for layout in _LAYOUTS:
        names = (layout.up, layout.down, *([layout.gate] if layout.gate else []))
        if all(_is_linear(getattr(mlp, name, None)) for name in names) and callable(
            getattr(mlp, layout.activation, None)
        ):
            return layout
    return _layout_by_structure(mlp)


def mlp_parts(mlp: nn.Module) -> MLPParts:
    """A uniform view of an MLP made of `nn.Linear` or `Conv1D` modules, gated, fused or plain.

    Raises UnsupportedModelError for any other structure.
    """
    return _parts(mlp, mlp_layout(mlp))


@torch.no_grad()
def activations(mlp: nn.Module, hidden: Tensor) -> Tensor:
    """What the MLP's down projection reads, ``[..., I]``, for inputs ``[..., D]``; exact, without gradients.

    The module itself is run up to its down projection, so the values are the ones it uses, bit for bit.
    """
    with captured_inputs({"down": getattr(mlp, mlp_layout(mlp).down)}, stop=True) as captured:
        mlp(hidden)
    return captured["down"]


class _StopForwardError(Exception):
    """Raised by a hook that has captured its input, to skip the rest of a forward pass; no caller sees it."""


@contextlib.contextmanager
def captured_inputs(modules: Mapping[K, nn.Module], *, stop: bool = False) -> Iterator[dict[K, Tensor]]:
    """Capture what modules read in the forward passes of a ``with`` block.

    Args:
        modules: By any key.
        stop: End the block as soon as all of them have read, so that nothing after them is run.

    Yields:
        The first argument of each module's latest call, by its key.
    """
    found: dict[K, Tensor] = {}

    def keep(key: K, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[key] = args[0] if args else kwargs["hidden_states"]
        if stop and len(found) == len(modules):
            raise _StopForwardError

    handles = [m.register_forward_pre_hook(partial(keep, key), with_kwargs=True) for key, m in modules.items()]
    try:
        yield found
    except _StopForwardError:
        pass
    finally:
        for handle in handles:
            handle.remove()


def is_transposed(module: object) -> bool:
    """Whether a linear map keeps its weight as [in, out]: Transformers' ``Conv1D``, as in GPT-2."""
    # Only a process that has imported Transformers, which takes seconds, can hold one.
    library: Any = sys.modules.get("transformers.pytorch_utils")
    return library is not None and isinstance(module, library.Conv1D)


def linear_sizes(linear: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of an `nn.Linear` or a `Conv1D`, whose weight is transposed."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    weight = linear.weight
    assert isinstance(weight, Tensor)
    first, second = weight.shape
    return (first, second) if is_transposed(linear) else (second, first)


def _is_linear(module: object) -> bool:
    return isinstance(module, nn.Linear) or is_transposed(module)


def _weight_FD(module: nn.Module) -> Tensor:
    """Weight as [out, in]. Conv1D stores [in, out]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.t() if is_transposed(module) else weight


def _parts(mlp: nn.Module, layout: MLPLayout) -> MLPParts:
    up, down = getattr(mlp, layout.up), getattr(mlp, layout.down)
    gate = getattr(mlp, layout.gate) if layout.gate else None
    gate_w, gate_b = (_weight_FD(gate), gate.bias) if gate is not None else (None, None)
    up_w, up_b = _weight_FD(up), up.bias
    if layout.fused:
        gate_w, up_w = up_w.chunk(2, dim=0)
        gate_b, up_b = up_b.chunk(2) if up_b is not None else (None, None)
    return MLPParts(gate_w, gate_b, up_w, up_b, _weight_FD(down), down.bias, getattr(mlp, layout.activation))


def _layout_by_structure(mlp: nn.Module) -> MLPLayout:
    """Try every way of reading the module's children as an MLP; take the one that computes the same."""
    linears = {name: child for name, child in mlp.named_children() if _is_linear(child)}
    others = [
        name
        for name, child in mlp.named_children()
        if not _is_linear(child) and not any(True for _ in child.parameters())
    ]
    # Activations are often plain functions kept as attributes, not modules.
    others += [name for name, value in vars(mlp).items() if callable(value) and not name.startswith("_")]
    if not 2 <= len(linears) <= 3:
        raise UnsupportedModelError(f"{type(mlp).__name__} has {len(linears)} linear children, expected 2 or 3")
    if not others:
        raise UnsupportedModelError(f"{type(mlp).__name__} has no activation among its attributes")
    for layout in _candidates(linears, others):
        if _computes_the_same(mlp, _parts(mlp, layout)):
            return layout
    names = ", ".join(linears)
    raise UnsupportedModelError(f"{type(mlp).__name__} does not compute down(act(gate) * up) with its children {names}")


def _candidates(linears: dict[str, nn.Module], activations: list[str]) -> Iterator[MLPLayout]:
    for order in permutations(linears):
        *ups, down = order
        shapes = [tuple(_weight_FD(linears[name]).shape) for name in ups]
        outer, inner = _weight_FD(linears[down]).shape
        for activation in activations:
            if len(ups) == 2 and shapes == [(inner, outer)] * 2:
                yield MLPLayout(ups[0], ups[1], down, activation)
            elif len(ups) == 1 and inner > outer and shapes == [(inner, outer)]:
                yield MLPLayout(None, ups[0], down, activation)
            elif len(ups) == 1 and shapes == [(2 * inner, outer)]:
                yield MLPLayout(None, ups[0], down, activation, fused=True)


@torch.no_grad()
def _computes_the_same(mlp: nn.Module, parts: MLPParts) -> bool:
    weight = parts.up_w
    # A fixed input: the global random state stays as it was.
    generator = torch.Generator().manual_seed(0)
    probe_1ND = torch.randn(1, 4, parts.hidden_size, generator=generator).to(weight.device, weight.dtype)
    try:
        expected: Any = mlp(probe_1ND)
        got: Any = parts(probe_1ND)
    except (TypeError, RuntimeError, ValueError):
        return False  # this reading of the module does not even run: another one may
    if not (torch.is_tensor(expected) and torch.is_tensor(got)) or expected.shape != got.shape:
        return False
    tolerance = 1e-4 if weight.dtype == torch.float32 else 5e-2
    return bool((expected - got).norm() <= tolerance * expected.norm())
