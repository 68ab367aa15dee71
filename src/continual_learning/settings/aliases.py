"""Names in the documented settings file for settings that have a different name here.

The documented sections are model, ttt, alpha, tfidf_gate, ace and doc2lora. `ttt`, `ace` and `doc2lora` are the
strategies of these names, so that ``ttt.passes`` is ``strategies.ttt.passes``; the keys below differ in more than the
prefix. Files, variables and `config get | set` accept either name.
"""

from __future__ import annotations

from collections.abc import Collection

STRATEGY_SECTIONS = ("ttt", "ace", "doc2lora")

RENAMED = {
    "model.modified_layers_start": "strategies.ttt.first_block",
    "model.modified_layers_end": "strategies.ttt.last_block",
    "ttt.mini_batch_size": "strategies.ttt.mini_batch_tokens",
    "ttt.max_tokens_per_document": "strategies.ttt.max_tokens",
    "alpha.initial": "strategies.ttt.alpha_initial",
    "alpha.decay_rate": "strategies.ttt.alpha_decay",
    "alpha.min_value": "strategies.ttt.alpha_min",
    "tfidf_gate.threshold": "strategies.ttt.gate_threshold",
    "tfidf_gate.calibration_samples": "strategies.ttt.calibration_samples",
    "ace.ollama_model": "strategies.ace.server_model",
    "ace.ollama_base_url": "strategies.ace.host",
    "ace.num_loops": "strategies.ace.loops",
    "doc2lora.checkpoint": "strategies.doc2lora.hypernetwork",
    "doc2lora.chunk_size": "strategies.doc2lora.chunk_tokens",
}


def renamed(strategies: Collection[str]) -> dict[str, str]:
    """Map from documented keys to the keys here, for the existing strategies."""
    return {old: new for old, new in RENAMED.items() if new.split(".")[1] in strategies}


def canonical(key: str, strategies: Collection[str]) -> str:
    """The name of a setting here, given either name."""
    section, _, rest = key.partition(".")
    if key in RENAMED:
        return renamed(strategies).get(key, key)
    return f"strategies.{key}" if rest and section in STRATEGY_SECTIONS and section in strategies else key


def documented(key: str, strategies: Collection[str]) -> str:
    """The name of a setting in the documented file; the key itself if it has no other name there."""
    by_new = {new: old for old, new in renamed(strategies).items()}
    section, _, rest = key.partition(".")
    if key in by_new:
        return by_new[key]
    return rest if section == "strategies" and rest.split(".")[0] in STRATEGY_SECTIONS else key


def names_below(section: str, strategies: Collection[str]) -> list[str]:
    """Documented names below a section; with an empty section, the documented sections."""
    keys = renamed(strategies)
    if section:
        return [key.partition(".")[2] for key in keys if key.partition(".")[0] == section]
    return list(dict.fromkeys([s for s in STRATEGY_SECTIONS if s in strategies] + [k.partition(".")[0] for k in keys]))
