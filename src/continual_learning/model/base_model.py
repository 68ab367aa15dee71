"""BaseModel: one frozen causal language model with its tokenizer, shared by all strategies.

Shapes: B = rows of a batch, T = tokens of a row, D = hidden size, N = any number of tokens,
V = vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import ConfigError, UnsupportedModelError
from continual_learning.model.chat_template import SHIELD, ChatFormat, Message
from continual_learning.model.checkpointing import activations_fit
from continual_learning.model.cpu_linear import FastLinears, Precision
from continual_learning.model.families import Family, captured_inputs, find_family, softcap
from continual_learning.model.loading import load_pretrained
from continual_learning.model.logits_processors import ChoiceSteer, Steer, Step
from continual_learning.model.network import KeyValueCache, Network
from continual_learning.model.pretrained import fingerprint as model_fingerprint
from continual_learning.model.quantised import FrozenWeights, quantise

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from continual_learning.model.tokenizer import Tokenizer

__all__ = ["BaseModel", "Message"]

_T = TypeVar("_T")

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Logits of this many tokens at a time: 8,192 tokens by 49,152 words would take 1.6 GB.
_LOGITS_CHUNK = 256
# Training runs that take turns on one model: ttt's passages_together.
_MOST_KEPT_ROWS = 4


class Attention(NamedTuple):
    """Attention mask and positions of the tokens in rows that are not plain sequences."""

    allowed_BTT: Tensor
    """For every token, which tokens of its row it attends to: bool."""
    position_BT: Tensor


class _HeadRows(NamedTuple):
    tokens_S: Tensor
    weight: Tensor
    version: int
    rows_SD: Tensor
    bias_S: Tensor | None


class BaseModel:
    """A causal language model at rest: in eval mode, without gradients, its weights never written to.

    Not safe for use by several threads at once: patches are seen by all of them.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel | Network,
        tokenizer: PreTrainedTokenizerBase | Tokenizer,
        fingerprint: str | None = None,
        precision: Precision = "full",
        frozen_weights: FrozenWeights = "full",
    ):
        """Wrap a loaded model. It is put into eval mode and its parameters stop taking gradients.

        ``precision`` is that of decoding alone: ``int8`` and ``int4`` answer faster from weights rounded to 8 or 4
        bits, and learn with the unrounded weights. ``frozen_weights`` says what the model's own are held in (`load`).

        Raises UnsupportedModelError when it cannot be patched or run in stages.
        """
        self.name = name
        self.frozen_weights = frozen_weights
        self.model: Any = model
        model.train(False)
        model.requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.family: Family = find_family(model)
        self.fingerprint = fingerprint or model_fingerprint(model)
        config = model.config.get_text_config()
        self.hidden_size = int(config.hidden_size)
        self.vocab_size = int(config.vocab_size)
        self.window = _window(config, tokenizer)
        self._softcap = softcap(self.family, config)
        self._chat = ChatFormat(tokenizer)
        self.stop_text = self._chat.stop_text
        self.stop_ids = self._find_stop_ids()
        self._remembered: dict[Hashable, Any] = {}
        self._kept_rows: deque[_HeadRows] = deque(maxlen=_MOST_KEPT_ROWS)
        self.steers: tuple[Steer, ...] = ()
        """Processors that currently change the logits of every generation; see `steered`."""
        self.own_network = isinstance(model, Network)
        # The check takes half a second; for our own network, tests do it once and for all.
        if not self.own_network:
            self._check_stages()
        self.mlp_class = type(self.mlp(0))
        self.linears = FastLinears(model, precision)

    @classmethod
    def load(
        cls,
        name: str = "smollm2-135m",
        device: str = "auto",
        dtype: str = "auto",
        precision: Precision = "full",
        frozen_weights: FrozenWeights = "full",
    ) -> BaseModel:
        """Load ``smollm2-135m``, ``gemma3-270m``, a GGUF file, a local folder or a model of the Hugging Face hub.

        ``device``: ``auto`` (cuda if there is one, else cpu), ``cpu``, ``cuda``, ``cuda:1`` …
        ``dtype``: ``auto`` (float32 on a CPU, bfloat16 on a GPU that has it), ``float32``, ``bfloat16``, ``float16``.
        ``precision``: ``int8`` and ``int4`` answer faster on a CPU, from weights rounded to 8 or 4 bits; learning is
        not affected.
        ``frozen_weights``: ``int8`` and ``nf4`` hold the blocks' weights in 8 or 4.25 bits (`model.quantised`), for
        learning as well. That is another base, with another fingerprint: what was learned on one was checked on it,
        word for word, and is not known to hold on the other.
        Raises ConfigError for another device or dtype, ModelNotFoundError, ModelError, UnsupportedModelError.
        """
        place = _device(device)
        kind = _dtype(dtype, place)
        if "full" not in (precision, frozen_weights):
            raise ConfigError(
                f"precision = {precision!r} with frozen_weights = {frozen_weights!r}: the one is a rounded copy of "
                "full weights; expected one of them at full"
            )
        loaded = load_pretrained(name, kind)
        fingerprint = loaded.fingerprint
        if frozen_weights != "full":
            quantise(loaded.model, frozen_weights, place)
            fingerprint = f"{frozen_weights}-{fingerprint}"
        nn.Module.to(loaded.model, place)
        return cls(name, loaded.model, loaded.tokenizer, fingerprint, precision, frozen_weights)

    # -- parts -----------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return torch.device(self.model.device)

    @property
    def chats(self) -> bool:
        """Whether its tokenizer knows how a conversation is written; a base that never saw one continues plain text."""
        return self._chat.has_template

    @property
    def backbone(self) -> nn.Module:
        """The model without its head."""
        backbone: nn.Module = self.model.base_model
        return backbone

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        blocks = self.model.get_submodule(self.family.blocks_path)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def block_count(self) -> int:
        """Number of transformer blocks."""
        return len(self.blocks)

    def block_path(self, i: int) -> str:
        """Dotted path of block ``i`` inside `model`; negative counts from the end."""
        count = self.block_count
        if not -count <= i < count:
            raise IndexError(f"block {i}; the model has blocks 0 to {count - 1}")
        return f"{self.family.blocks_path}.{i % count}"

    def mlp_path(self, i: int) -> str:
        """Dotted path of block ``i``'s MLP inside `model`, such as ``model.layers.22.mlp``."""
        return f"{self.block_path(i)}.{self.family.mlp_name}"

    def mlp(self, i: int) -> nn.Module:
        """Block ``i``'s MLP, in its current form: the replacement while it is patched."""
        mlp: nn.Module = self.model.get_submodule(self.mlp_path(i))
        return mlp

    @contextmanager
    def patched(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Replace modules (dotted path inside `model` to replacement) within a ``with`` block.

        The originals are restored however the block is left. May be nested. Raises KeyError for a path
        that leads nowhere, before anything is changed.
        """
        places: list[tuple[nn.Module, str, nn.Module]] = []
        for path in modules:
            parent_path, _, child = path.rpartition(".")
            try:
                parent = self.model.get_submodule(parent_path)
                places.append((parent, child, parent.get_submodule(child)))
            except AttributeError as error:
                raise KeyError(f"no module {path!r} in {type(self.model).__name__}: {error}") from None
        try:
            for (parent, child, _), replacement in zip(places, modules.values(), strict=True):
                parent._modules[child] = replacement
            yield
        finally:
            for parent, child, original in reversed(places):
                parent._modules[child] = original

    @contextmanager
    def steered(self, steer: Steer) -> Iterator[None]:
        """Within the block, ``steer`` changes the logits of what is generated or scored, after the caller's own.

        In `token_nll` a row is a token of the text, and nothing counts as written. May be nested.
        """
        before = self.steers
        self.steers = (*before, steer)
        try:
            yield
        finally:
            self.steers = before

    @contextmanager
    def unsteered(self) -> Iterator[None]:
        """Within the block, what is generated or scored has the logits that the weights give."""
        before, self.steers = self.steers, ()
        try:
            yield
        finally:
            self.steers = before

    def weighed(self, choices: Mapping[str, float]) -> dict[str, float]:
        """Log-likelihoods of whole answers, moved by steers of whole answers (`logits_processors.ChoiceSteer`)."""
        moved = dict(choices)
        steers: tuple[object, ...] = self.steers
        for steer in steers:
            if isinstance(steer, ChoiceSteer):
                moved = steer.weigh(moved)
        return moved

    def remember(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """The result of ``compute``, computed once for this base: for facts about the unpatched base alone."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        found: _T = self._remembered[key]
        return found

    # -- text ------------------------------------------------------------------------------------

    def encode(self, text: str, add_special_tokens: bool = False, special_words: bool = False) -> list[int]:
        """Token ids of a text of any length.

        ``<|im_end|>`` and the like, written in a text, are ordinary characters; with ``special_words`` they become the
        special tokens that they name, as in a rendered chat template.
        """
        ids: list[int] = self.tokenizer(
            text, add_special_tokens=add_special_tokens, split_special_tokens=not special_words, verbose=False
        )["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def chat_ids(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, system: bool = True
    ) -> list[int]:
        """Token ids of a conversation by the tokenizer's chat template, else as ``Question: …\\nAnswer:``.

        The latter begins as every text does: Gemma repeats the question where its first token is missing.
        ``system=False`` leaves out the system prompt that a template adds by itself. Raises
        InputError for a conversation that the template refuses.
        """
        written, words = self._chat.shielded(messages)
        text = self._chat.render(written, add_generation_prompt, system)
        ids = [] if self.chats else self.encode("", add_special_tokens=True)
        for number, part in enumerate(SHIELD.split(text)):
            ids += self.encode(words[int(part)]) if number % 2 else self.encode(part, special_words=True)
        return ids

    # -- staged forward --------------------------------------------------------------------------

    @torch.no_grad()
    def hidden_before(self, input_ids_BT: Tensor, block: int, attention: Attention | None = None) -> Tensor:
        """What block ``block`` reads, ``[B, T, D]``, without gradients; it and later blocks are not run.

        Rows are padded on the right, with any token: attention is causal, so no token attends to the padding after it.
        ``attention`` replaces this mask.
        """
        with captured_inputs({block: self.blocks[block]}, stop=True) as captured:
            self._run(input_ids_BT, attention)
        return captured[block]

    def run_from(
        self, hidden_BTD: Tensor, input_ids_BT: Tensor, block: int, attention: Attention | None = None
    ) -> Tensor:
        """Run block ``block`` and all that follow on ``hidden_BTD``; returns ``[B, T, D]`` after the final norm.

        ``input_ids_BT`` are the tokens that ``hidden_BTD`` was computed from. Differentiable through
        these blocks. With `hidden_before` it gives, bit for bit, what the whole model computes.
        """

        # The model's own forward prepares masks, positions and rotary embeddings, which differ from
        # family to family; blocks that are already done pass on their input, and this block
        # receives the hidden states to start from.
        def feed(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return ((hidden_BTD, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden_BTD})

        first = self.block_path(block)
        done = {self.block_path(i): _Skipped(b) for i, b in enumerate(self.blocks) if i < block % self.block_count}
        with activations_fit(self, input_ids_BT.numel(), block), self.patched(done):
            # on the block as it is put in place: one that runs again in the backward pass is fed only once
            handle = self.model.get_submodule(first).register_forward_pre_hook(feed, with_kwargs=True)
            try:
                return self._run(input_ids_BT, attention)
            finally:
                handle.remove()

    def run(self, input_ids_BT: Tensor) -> Tensor:
        """Run all blocks on tokens, padded as in `hidden_before`; returns ``[B, T, D]`` after the final norm.

        Differentiable; what does not fit into memory is computed again in the backward pass (`checkpointing`).
        """
        with activations_fit(self, input_ids_BT.numel()):
            return self._run(input_ids_BT)

    def logits(self, hidden_ND: Tensor, tokens_S: Tensor | None = None) -> Tensor:
        """Logits ``[..., V]`` of final hidden states ``[..., D]``, with the family's soft cap.

        With ``tokens_S``, only the logits of these tokens, ``[..., S]``, at S / V of the work.
        """
        head = self.model.get_output_embeddings()
        logits: Tensor = head(hidden_ND) if tokens_S is None else F.linear(hidden_ND, *self._head_rows(head, tokens_S))
        return self.soft_capped(logits)

    def soft_capped(self, logits: Tensor) -> Tensor:
        """The logits that the family makes of what the head gives: under its soft cap, if it has one."""
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    def _head_rows(self, head: nn.Module, tokens_S: Tensor) -> tuple[Tensor, Tensor | None]:
        """The head's weights and biases of some tokens: [S, D], [S].

        The same tokens recur at every step of a training run, and gathering their rows takes a tenth of a small
        model's step; so the rows last gathered are kept, unless they are trained.
        """
        weight, bias = head.weight, getattr(head, "bias", None)
        assert isinstance(weight, Tensor)
        learning = weight.requires_grad or (bias is not None and bias.requires_grad)
        for kept in () if learning else self._kept_rows:
            if kept.tokens_S is tokens_S and kept.weight is weight and kept.version == weight._version:
                return kept.rows_SD, kept.bias_S
        rows_SD, bias_S = weight[tokens_S], None if bias is None else bias[tokens_S]
        if not learning:
            self._kept_rows.append(_HeadRows(tokens_S, weight, weight._version, rows_SD, bias_S))
        return rows_SD, bias_S

    @torch.no_grad()
    def token_nll(self, texts: Sequence[str], context: str = "") -> tuple[float, int]:
        """Negative log-likelihood of texts, in nats: its sum, and the number of tokens it is a sum over.

        A text's first token is not scored. A text longer than the window is read in windows that
        overlap by half; every token is scored once, with at least half a window before it. With a
        ``context``, each text is read after it and an empty line, and only the text is scored.
        """
        total, count = 0.0, 0
        before = self.encode(f"{context}\n\n", add_special_tokens=True) if context else []
        for text in texts:
            text_ids = self.encode(text, add_special_tokens=not before)
            ids = torch.tensor([*before, *text_ids], dtype=torch.long, device=self.device)
            # ids before this one are done; windows that hold nothing but context are not run
            scored = len(before) + 1
            while scored < len(ids):
                start = 0 if scored < self.window else scored - self.window // 2
                window_1T = ids[None, start : start + self.window]
                hidden_TD = self._run(window_1T)[0]
                for at in range(scored - start, window_1T.shape[1], _LOGITS_CHUNK):
                    targets = window_1T[0, at : at + _LOGITS_CHUNK]
                    read_ND = hidden_TD[at - 1 : at - 1 + len(targets)]
                    logits = self.logits(read_ND)
                    for steer in self.steers:
                        rows = len(targets)
                        logits = steer(Step((0,) * rows, ((),) * rows, read_ND, logits))
                    total += F.cross_entropy(logits.float(), targets, reduction="sum").item()
                    count += len(targets)
                scored = start + window_1T.shape[1]
        return total, count

    def new_cache(self, whole: bool = False) -> Any:
        """An empty cache of keys and values for the ``past_key_values`` of `backbone`.

        ``whole``: blocks that attend to the last tokens alone keep all, as what is not in sequence needs them.
        """
        if self.own_network:
            return KeyValueCache()
        from transformers import DynamicCache

        return DynamicCache() if whole else DynamicCache(config=self.model.config)

    def attention_mask(self, allowed_TS: Tensor, position_S: Tensor) -> Tensor | dict[str, Tensor]:
        """The ``attention_mask`` of `backbone` for one row of tokens, the last T of the S in a whole cache.

        ``allowed_TS``: what each attends to; ``position_S``: the position of each. In blocks that attend to the last
        tokens alone, it is those of the positions before it.
        """
        config = self.model.config.get_text_config()
        kinds: list[str] = getattr(config, "layer_types", None) or []
        position_S = position_S.to(allowed_TS.device)
        distance_TS = position_S[len(position_S) - len(allowed_TS) :, None] - position_S
        window = getattr(config, "sliding_window", None)

        def added(seen_TS: Tensor) -> Tensor:
            dtype = self.model.dtype
            added_11TS = torch.zeros(seen_TS.shape, dtype=dtype, device=self.device)[None, None]
            return added_11TS.masked_fill(~seen_TS.to(self.device), torch.finfo(dtype).min)

        if not window or (kinds and set(kinds) <= {"full_attention"}):
            return added(allowed_TS)
        near = added(allowed_TS & (distance_TS < window))
        masks = {"full_attention": added(allowed_TS), "sliding_attention": near}
        return masks if set(kinds) == set(masks) else near

    def _run(self, input_ids_BT: Tensor, attention: Attention | None = None) -> Tensor:
        # Embeddings, not ids: given ids with padding among them, GPT-2 warns that it has no mask.
        embedded_BTD = self.model.get_input_embeddings()(input_ids_BT)
        given: dict[str, Tensor] = {}
        if attention is not None:
            # Transformers uses a mask with four axes unchanged, adding it to the scores.
            added_BTT = torch.zeros_like(attention.allowed_BTT, dtype=embedded_BTD.dtype)
            added_BTT.masked_fill_(~attention.allowed_BTT, torch.finfo(embedded_BTD.dtype).min)
            given = {"attention_mask": added_BTT[:, None], "position_ids": attention.position_BT}
        hidden_BTD: Tensor = self.backbone(inputs_embeds=embedded_BTD, use_cache=False, **given).last_hidden_state
        return hidden_BTD

    def _find_stop_ids(self) -> frozenset[int]:
        eos = getattr(getattr(self.model, "generation_config", self.model.config), "eos_token_id", None)
        ids = {*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id, self._chat.end_of_turn}
        return frozenset(int(i) for i in ids if i is not None)

    @torch.no_grad()
    def _check_stages(self) -> None:
        """A few tokens through the whole model and in two stages must give the same logits."""
        ids_1T = torch.arange(1, min(6, self.vocab_size), device=self.device)[None]
        middle = self.block_count // 2
        expected_1TV = self.model(input_ids=ids_1T, use_cache=False).logits
        staged_1TV = self.logits(self.run_from(self.hidden_before(ids_1T, middle), ids_1T, middle))
        error = float((expected_1TV - staged_1TV).abs().max())
        if not error <= 1e-3 * float(expected_1TV.abs().max()):
            raise UnsupportedModelError(
                f"{type(self.model).__name__} (family {self.family.name!r}) run in two stages at "
                f"{self.block_path(middle)} gives other logits, off by {error:.3g}; expected the same: its blocks or "
                "its head do more than this package knows of"
            )


class _Skipped(nn.Module):
    """Replaces a block whose work is done and passes on its input. Other attributes are the block's own."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self._of = (block,)  # in a tuple, so that it is not registered as a submodule

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_of"][0], name)

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden_states


def _window(config: Any, tokenizer: Any) -> int:
    limits = (getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
    known = [int(n) for n in limits if n is not None and n < 10**9]  # tokenizers write 1e30 for "unknown"
    if not known:
        raise UnsupportedModelError(
            f"{config.model_type!r} names no longest input; expected max_position_embeddings in its config.json"
        )
    return known[0]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r}; expected auto, cpu or cuda") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float32
    if name not in _DTYPES:
        raise ConfigError(f"dtype {name!r}; expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]
