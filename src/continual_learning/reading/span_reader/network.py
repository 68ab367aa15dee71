"""The network of a span reader: a small bidirectional transformer over question and text, with a score for every span.

    x = Q(mix(states of the question)) ++ T(mix(states of the text)) + P(features)
    h = transformer(x)                                        Vaswani et al. 2017, pre-norm, relative positions
    score(i, j) = start_i + end_j + u_i . v_j / sqrt(k) + length_(j - i)

``mix`` is a learned average over blocks (ELMo, Peters et al. 2018, equation 1). The base reads left to right, so the
states of words before a clue know nothing of it: attention in both directions fixes that, too.

Shapes: B = questions of a batch, Q = tokens of a question, T = tokens of a text, L = blocks whose states are read,
D = the base's hidden size, W = the network's width, F = features, H = attention heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CLIP = 6.0  # states are standardised; a few dimensions have outliers of 30 deviations
_NEVER = -1e4


@dataclass(frozen=True)
class NetworkShape:
    """Everything that determines the tensors of a network."""

    hidden_size: int
    """D, the base's hidden size."""
    blocks: tuple[int, ...]
    """The blocks whose input states are read, in order."""
    features: int
    """F, the number of features."""
    width: int = 128
    """W, the network's width."""
    layers: int = 2
    heads: int = 4
    pair_width: int = 32
    longest: int = 14
    """Tokens of the longest span."""
    distance: int = 24
    """Relative distances are clipped to this."""


class SpanNetwork(nn.Module):
    """Scores the spans of texts."""

    text_mean_LD: Tensor
    text_deviation_LD: Tensor
    question_mean_LD: Tensor
    question_deviation_LD: Tensor

    def __init__(self, shape: NetworkShape, dropout: float = 0.3):
        super().__init__()
        self.shape = shape
        width, depth = shape.width, len(shape.blocks)
        self.register_buffer("text_mean_LD", torch.zeros(depth, shape.hidden_size))
        self.register_buffer("text_deviation_LD", torch.ones(depth, shape.hidden_size))
        self.register_buffer("question_mean_LD", torch.zeros(depth, shape.hidden_size))
        self.register_buffer("question_deviation_LD", torch.ones(depth, shape.hidden_size))
        self.text_mix_L = nn.Parameter(torch.zeros(depth))
        self.question_mix_L = nn.Parameter(torch.zeros(depth))
        self.text_in = nn.Linear(shape.hidden_size, width)
        self.question_in = nn.Linear(shape.hidden_size, width)
        self.features_in = nn.Linear(shape.features, width)
        self.side_2W = nn.Parameter(torch.randn(2, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        self.edges = nn.Linear(width + shape.features, 2)
        self.pair_start = nn.Linear(width, shape.pair_width)
        self.pair_end = nn.Linear(width, shape.pair_width)
        self.length_S = nn.Parameter(torch.zeros(shape.longest))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, text_BTLD: Tensor, question_BQLD: Tensor, features_BTF: Tensor, is_text_BT: Tensor, is_question_BQ: Tensor
    ) -> Tensor:
        """Scores ``[B, T, T]`` of the spans from token i to token j, inclusive; about -10,000 for impossible ones."""
        text_BTD = _mixed(text_BTLD, self.text_mean_LD, self.text_deviation_LD, self.text_mix_L)
        question_BQD = _mixed(question_BQLD, self.question_mean_LD, self.question_deviation_LD, self.question_mix_L)
        text_BTW = self.features_in(features_BTF) + self.text_in(self.dropout(text_BTD)) + self.side_2W[0]
        question_BQW = self.question_in(self.dropout(question_BQD)) + self.side_2W[1]
        x_BNW = torch.cat([question_BQW, text_BTW], 1)
        questions, tokens = question_BQW.shape[1], text_BTW.shape[1]
        blocked_B11N = torch.where(torch.cat([is_question_BQ, is_text_BT], 1), 0.0, _NEVER)[:, None, None]
        for layer in self.layers:
            x_BNW = layer(x_BNW, blocked_B11N, questions)
        h_BTW = self.norm(x_BNW[:, questions:])
        edges_BT2 = self.edges(torch.cat([h_BTW, features_BTF], -1))
        edges_BT2 = edges_BT2 + torch.where(is_text_BT, 0.0, _NEVER)[..., None]
        pairs_BTT = self.pair_start(h_BTW) @ self.pair_end(h_BTW).transpose(1, 2) / self.shape.pair_width**0.5
        places_T = torch.arange(tokens, device=h_BTW.device)
        length_TT = places_T[None] - places_T[:, None]
        possible_TT = (length_TT >= 0) & (length_TT < self.shape.longest)
        length_TT = length_TT.clamp(0, self.shape.longest - 1)
        prior_TT = torch.where(possible_TT, self.length_S[length_TT], _NEVER)
        scores_BTT: Tensor = edges_BT2[:, :, None, 0] + edges_BT2[:, None, :, 1] + pairs_BTT + prior_TT
        return scores_BTT


class _Layer(nn.Module):
    """Self-attention and an MLP, each after a norm and added to what came in."""

    def __init__(self, shape: NetworkShape, dropout: float):
        super().__init__()
        width = shape.width
        self.heads, self.distance = shape.heads, shape.distance
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.dropout = nn.Dropout(dropout)
        # Within the question and within the text by distance; between them one number per head.
        self.near_HR = nn.Parameter(torch.zeros(shape.heads, 2 * shape.distance + 1))
        self.across_H = nn.Parameter(torch.zeros(shape.heads))

    def forward(self, x_BNW: Tensor, blocked_B11N: Tensor, questions: int) -> Tensor:
        batch, length, width = x_BNW.shape
        qkv = self.qkv(self.attention_norm(x_BNW)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        places_N = torch.arange(length, device=x_BNW.device)
        apart_NN = (places_N[None] - places_N[:, None]).clamp(-self.distance, self.distance) + self.distance
        is_question_N = places_N < questions
        together_NN = is_question_N[None] == is_question_N[:, None]
        bias_HNN = torch.where(together_NN, self.near_HR[:, apart_NN], self.across_H[:, None, None])
        share = 0.1 if self.training else 0.0
        mask = bias_HNN[None] + blocked_B11N
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=share)
        x_BNW = x_BNW + self.dropout(self.out(read.transpose(1, 2).reshape(batch, length, width)))
        added: Tensor = x_BNW + self.dropout(self.mlp(self.mlp_norm(x_BNW)))
        return added


def _mixed(states_BNLD: Tensor, mean_LD: Tensor, deviation_LD: Tensor, mix_L: Tensor) -> Tensor:
    """Standardised states, averaged over blocks."""
    standard = ((states_BNLD.float() - mean_LD) / deviation_LD).clamp(-_CLIP, _CLIP)
    return torch.einsum("bnld,l->bnd", standard, mix_L.softmax(0))
