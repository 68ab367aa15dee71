"""Valid settings with which next to nothing is learned."""

from __future__ import annotations

from continual_learning.strategies.methods.ttt.config import TTTConfig

# Parts of a text that were learned word for word, of 7, on the embedded model with all else at its default:
#   learning_rate  0.02: 7   0.01: 7   0.005: 3   0.003: 1   0.001: 0   0.00001: 0
#   alpha             0: 7    0.7: 7     0.9: 7    0.95: 4    0.97: 1      0.99: 1
LEAST_RATE, WORKING_RATES = 0.005, "0.01 to 0.02"
MOST_ALPHA, WORKING_ALPHAS = 0.95, "0 to 0.9"


def weak_settings(config: TTTConfig, alpha: float) -> tuple[str, ...]:
    """Return a warning, with values that work, if ``config`` hardly learns a document at this ``alpha``; else none."""
    weak, working = [], []
    if config.learning_rate < LEAST_RATE:
        weak.append(f"ttt.learning_rate {config.learning_rate:g}")
        working.append(f"ttt.learning_rate {WORKING_RATES}")
    if alpha > MOST_ALPHA:
        start = "" if alpha == config.alpha_initial else f" (alpha.initial {config.alpha_initial:g})"
        weak.append(f"alpha {alpha:g}{start}")
        working.append(f"alpha.initial {WORKING_ALPHAS}")
    if not weak:
        return ()
    said = f"{' and '.join(weak)} {'teach' if len(weak) > 1 else 'teaches'} next to nothing"
    return (f"{said}; on the embedded model these work: {', '.join(working)}",)
