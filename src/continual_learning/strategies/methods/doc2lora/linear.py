"""Linear fast weights: a document's tokens written into an associative memory, which is read as LoRA.

Generative Adapter (Chen et al. 2025, arXiv 2411.05877, section 2.2) makes ``dW = A1 norm(A2 (sum_t h_t h_t^T) B1) B2``
from a document's hidden states, a sum of outer products of learned keys and values. So does this generator, with

    k_t = K x_t / |K x_t|                 x_t what the target module reads at token t of the document
    v_t = V (u_{t+1} - o)                 u_{t+1} the output embedding of the next token
    A = Q,  B = g (sum_t k_t k_t^T + a I)^-1 sum_t k_t v_t^T        W' = W + multiplier * B^T A

for every layer; V and o are shared by the layers. As in Doc-to-LoRA, a few learned ranks (bias_A, bias_B) are added to
those of the documents: they hold what documents have in common, such as the form of the answers. The inverse replaces
the paper's norm of singular values: the memory is then the ridge regression of values on keys, the fixed point of the
delta rule, and similar tokens do not add up (the update of MEMIT, Meng et al. 2023, arXiv 2210.07229, equation 14, has
this form too). As a sum over tokens the memory knows no order: a token's position shows only in its hidden state.

A small base hardly carries the name of a subject to the position where its value is asked for: "plays the" opens
entries about anyone who plays something. So a reader, a learned LoRA in the attention of the blocks up to the first
memory's, is in place both when a document is read and when a question is answered, and learns to carry the name there.

The generator can be initialised from the base alone (`fitted`): keys and queries whiten what the module reads, and V is
the least-squares direction that raises only one token's logit.

Shapes: C = chunks, L = layers, S = tokens, I and O = inputs and outputs of the module, D = width of an output
embedding, R = key width, V = vocabulary, N = tokens of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from continual_learning.errors import InputError
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.config import LinearHypernetworkConfig
from continual_learning.strategies.methods.doc2lora.generated_lora import (
    Adapter,
    Generated,
    LowRank,
    Place,
    parameter_key,
)
from continual_learning.strategies.methods.doc2lora.module_inputs import (
    final_norm_inputs,
    module_inputs,
    padded,
    with_next,
)
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork, chunk_counts, side_by_side

if TYPE_CHECKING:
    from continual_learning.model.base_model import Attention, BaseModel

_FIT_LOGITS = 20.0  # initial rise of the logit of a token found with certainty, summed over all layers
_FIT_RIDGE = 0.3
_READER_STEP = 0.2  # size assumed for the reader's weights, to which their learning rate is relative


class LinearHypernetwork(DocumentHypernetwork):
    """Writes a document into linear associative memories, one per layer."""

    config: LinearHypernetworkConfig

    def __init__(self, config: LinearHypernetworkConfig):
        super().__init__()
        self.config = config
        _, inputs, outputs = config.module
        count, rank = len(config.layers), config.rank
        self.query = nn.Parameter(torch.zeros(count, rank, inputs))
        self.key = nn.Parameter(torch.zeros(count, rank, inputs))
        self.value = nn.Parameter(torch.zeros(config.context_width, outputs))
        self.offset = nn.Parameter(torch.zeros(config.context_width))
        self.gain = nn.Parameter(torch.ones(count))
        self.log_ridge = nn.Parameter(torch.zeros(count))
        self.bias_A = nn.Parameter(torch.zeros(count, config.bias_rank, inputs))
        self.bias_B = nn.Parameter(torch.zeros(count, config.bias_rank, outputs))
        changed, width = len(config.reader_layers), config.reader_rank
        sizes = {parameter_key(module): found for module, found in config.reader_modules.items()}
        self.reader_A = nn.ParameterDict({key: torch.zeros(changed, width, i) for key, (i, _) in sizes.items()})
        self.reader_B = nn.ParameterDict({key: torch.zeros(changed, width, o) for key, (_, o) in sizes.items()})

    @classmethod
    @torch.no_grad()
    def fitted(
        cls, base: BaseModel, config: LinearHypernetworkConfig, texts: Sequence[Sequence[int]]
    ) -> LinearHypernetwork:
        """Return one fitted to the base and some ordinary texts (token ids), without training.

        Raises InputError if a key has more entries than the module has inputs, or than the texts have tokens.
        """
        if config.rank > config.module[1]:
            raise InputError(f"rank {config.rank} over {config.module[1]} inputs; expected no more ranks than inputs")
        made = cls(config)
        seconds, count = _second_moments(base, config, texts)
        if count < config.rank:
            raise InputError(f"{count} tokens to fit keys of {config.rank} entries; expected more tokens than entries")
        values_LI, vectors_LII = torch.linalg.eigh(seconds)
        top_LR, top_LIR = values_LI[:, -config.rank :], vectors_LII[:, :, -config.rank :]
        floor_L1 = 1e-3 * top_LR.mean(dim=1, keepdim=True)
        whitening_LRI = (top_LIR * (top_LR + floor_L1).rsqrt()[:, None, :]).mT
        made.key.copy_(whitening_LRI)
        made.query.copy_(whitening_LRI * config.rank**-0.5)
        made.log_ridge.fill_(torch.tensor(_FIT_RIDGE).log())
        draw = torch.Generator().manual_seed(0)
        mixed_LBR = torch.randn(len(config.layers), config.bias_rank, config.rank, generator=draw)
        made.bias_A.copy_(mixed_LBR @ whitening_LRI * config.rank**-0.5)

        for matrix in made.reader_A.values():  # and B is zero, as LoRA starts
            matrix.copy_(torch.randn(matrix.shape, generator=draw) * matrix.shape[-1] ** -0.5)

        head_VD = base.model.get_output_embeddings().weight.float().cpu()
        final_ND, norm_D = final_norm_inputs(base, texts)
        made.offset.copy_(head_VD.mean(dim=0))
        centred_VD = head_VD - made.offset
        ridge = 1e-4 * len(head_VD) * head_VD.var()
        same_DD = centred_VD.mT @ centred_VD + ridge * torch.eye(head_VD.shape[1])
        direction_DD = torch.cholesky_inverse(torch.linalg.cholesky(same_DD))
        raised = ((centred_VD @ direction_DD) * centred_VD).sum(dim=1).median()
        # The final norm divides what is added to a hidden state by the state's length.
        length = final_ND.square().mean(dim=1).sqrt().median()
        made.value.copy_(direction_DD * length / (raised * norm_D))
        made.gain.fill_(_FIT_LOGITS / len(config.layers))
        return made

    def begun(self, base: BaseModel, chunks: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return ``hidden`` ``[C, S, D]``: the input of the first block that this network changes or reads from."""
        return {"hidden": base.hidden_before(padded(base, chunks)[0], self.config.first_block)}

    def read_on(
        self, base: BaseModel, chunks: Sequence[Sequence[int]], begun: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return ``[C, L, S, I + D]``, the module's inputs and then the next token's output embedding, and the mask.

        The last token of a chunk has no next token and is masked out.
        """
        ids_CS, mask_CS = padded(base, chunks)
        return with_next(base, ids_CS, self.module_inputs(base, begun["hidden"], ids_CS)), mask_CS

    def module_inputs(
        self, base: BaseModel, hidden_BTD: Tensor, ids_BT: Tensor, attention: Attention | None = None
    ) -> Tensor:
        """Return the module's inputs ``[B, L, T, I]``, with the reader in place, from the inputs of `first_block`."""
        name, _, _ = self.config.module
        with installed(base, self.reader()):
            return module_inputs(base, hidden_BTD, ids_BT, self.config.first_block, self.config.layers, name, attention)

    def reader(self) -> Adapter:
        """Return the LoRA with which documents are read and questions answered."""
        config = self.config
        return {
            (block, module): LowRank(
                self.reader_A[parameter_key(module)][number], self.reader_B[parameter_key(module)][number]
            )
            for number, block in enumerate(config.reader_layers)
            for module in config.reader_modules
        }

    def common(self) -> Adapter:
        """Return the reader, and the learned ranks in addition to the memories."""
        name, _, _ = self.config.module
        learned: Adapter = {
            (block, name): LowRank(self.bias_A[number], self.bias_B[number] * self.config.multiplier)
            for number, block in enumerate(self.config.layers if self.config.bias_rank else ())
        }
        return {**self.reader(), **learned}

    def generate(self, activations: Tensor, attention_mask: Tensor | None = None) -> Generated:
        """Return ``A`` ``[C, L, R, I]``, the same for all chunks, and ``B`` ``[C, L, R, O]``.

        ``activations`` and ``attention_mask`` are those that `read` returns. Raises InputError for other shapes.
        """
        name, _, _ = self.config.module
        key_CLSR, embedding_CLSD = self._read_keys(activations, attention_mask)
        value_CLSO = (embedding_CLSD[:, :1] - self.offset) @ self.value
        B_CLRO = self._inverse(key_CLSR) @ value_CLSO * self.gain[:, None, None]
        return {name: {"A": self.query.expand(len(B_CLRO), -1, -1, -1), "B": B_CLRO}}

    def openings(self, activations: Tensor, attention_mask: Tensor | None, input_CLNI: Tensor) -> Tensor:
        """Return ``[C, L, N, S]``: how much of each token's value the memory adds to the module's output.

        ``input_CLNI`` is what the module reads at N positions of other texts; the rest is as for `generate`. The sum of
        the values weighted by these is what `generate`'s matrices give for those inputs. Raises InputError as
        `generate` does.
        """
        key_CLSR, _ = self._read_keys(activations, attention_mask)
        query_CLNR = torch.einsum("lri,clni->clnr", self.query, input_CLNI)
        return query_CLNR @ self._inverse(key_CLSR) * self.gain[:, None, None]

    def _read_keys(self, activations: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the keys, zero where masked out, and the next tokens' embeddings ``[C, L, S, D]``."""
        _, inputs, _ = self.config.module
        expected = (len(self.config.layers), inputs + self.config.context_width)
        if activations.ndim != 4 or (activations.shape[1], activations.shape[3]) != expected:
            raise InputError(
                f"activations of shape {list(activations.shape)}; expected [chunks, {expected[0]}, tokens, "
                f"{expected[1]}], as `read` gives them for a base like {self.config.base_name!r}"
            )
        activations = activations.to(self.key.device, self.key.dtype)
        input_CLSI, embedding_CLSD = activations.split([inputs, self.config.context_width], dim=-1)
        key_CLSR = self.keys(input_CLSI)
        if attention_mask is not None:
            key_CLSR = key_CLSR * attention_mask.to(key_CLSR)[:, None, :, None]
        return key_CLSR, embedding_CLSD

    def _inverse(self, key_CLSR: Tensor) -> Tensor:
        """Return ``(sum_t k_t k_t^T + a I)^-1 K^T``, ``[C, L, R, S]``, K the keys, by the smaller of its two forms.

        The other form is ``K^T (K K^T + a I)^-1``, with a matrix of tokens by tokens.
        """
        ridge_L11 = self.log_ridge.exp()[:, None, None]
        tokens, rank = key_CLSR.shape[-2:]
        # Cholesky suits the matrix, and the LU of some BLAS libraries fails with several threads.
        if tokens < rank:
            same_CLSS = key_CLSR @ key_CLSR.mT + ridge_L11 * torch.eye(tokens, device=key_CLSR.device)
            return torch.cholesky_solve(key_CLSR, torch.linalg.cholesky(same_CLSS)).mT
        same_CLRR = key_CLSR.mT @ key_CLSR + ridge_L11 * torch.eye(rank, device=key_CLSR.device)
        return torch.cholesky_solve(key_CLSR.mT, torch.linalg.cholesky(same_CLRR))

    def keys(self, input_CLSI: Tensor) -> Tensor:
        """Return the keys ``[C, L, S, R]``, each of length 1."""
        return F.normalize(torch.einsum("lri,clsi->clsr", self.key, input_CLSI), dim=-1)

    def combine(self, generated: Generated, chunks_per_document: Sequence[int] | Tensor) -> Generated:
        """Concatenate chunks along the rank, then pad with zeros: K = (most chunks) R."""
        counts = chunk_counts(generated, chunks_per_document)
        ranks = self.config.ranks(max(counts))
        return {
            name: {
                half: torch.stack([side_by_side(part, None, ranks) for part in all_CLRF.split(counts)])
                for half, all_CLRF in matrices.items()
            }
            for name, matrices in generated.items()
        }

    def basis(self) -> dict[Place, Tensor]:
        """Return the queries: a document writes to B alone."""
        name, _, _ = self.config.module
        return {(block, name): self.query[number] for number, block in enumerate(self.config.layers)}

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return each parameter with a rate of ``rate`` times its size, since sizes differ by orders of magnitude.

        The learned ranks start at zero; their size is taken to be that of what a token writes.
        """
        sizes = {name: float(p.detach().square().mean().sqrt()) for name, p in self.named_parameters() if p.numel()}
        sizes["bias_B"] = sizes["value"] * sizes["gain"]
        sizes |= {name: _READER_STEP for name in sizes if name.startswith("reader_")}
        return [
            {"params": [p], "lr": rate * max(sizes[name], 1e-8)} for name, p in self.named_parameters() if p.numel()
        ]


@torch.no_grad()
def _second_moments(
    base: BaseModel, config: LinearHypernetworkConfig, texts: Sequence[Sequence[int]]
) -> tuple[Tensor, int]:
    """Return the mean of ``x x^T`` over all tokens, ``[L, I, I]``, on the CPU, and the number of tokens."""
    name, inputs, _ = config.module
    total_LII, count = torch.zeros(len(config.layers), inputs, inputs), 0
    for ids in texts:
        ids_1S, mask_1S = padded(base, [ids])
        found_1LSI = module_inputs(base, base.hidden_before(ids_1S, 0), ids_1S, 0, config.layers, name)
        x_LSI = found_1LSI[0][:, mask_1S[0].bool()].float().cpu()
        total_LII += x_LSI.mT @ x_LSI
        count += x_LSI.shape[1]
    return total_LII / max(count, 1), count
