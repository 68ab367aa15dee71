"""Valid settings with which next to nothing is learned."""

from __future__ import annotations

from continual_learning.strategies.methods.ttt.config import TTTConfig

# Parts of a text that were learned word for word, of 10, on the embedded model with all else at its default:
#   learning_rate  1.9: 10   1.6: 10   1: 10   0.3: 10   0.1: 2   0.05 and below: 0
# Steps grow as alpha leaves less of what they write, so that at every alpha from 0 to 0.99 all ten were.
LEAST_RATE, WORKING_RATES = 0.2, "0.3 to 1.9"


def weak_settings(config: TTTConfig) -> tuple[str, ...]:
    """Return a warning, with values that work, if ``config`` hardly learns a document; else none."""
    if config.learning_rate >= LEAST_RATE:
        return ()
    return (
        f"ttt.learning_rate {config.learning_rate:g} teaches next to nothing; on the embedded model these work: "
        f"ttt.learning_rate {WORKING_RATES}",
    )
