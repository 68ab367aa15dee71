"""The public names of Doc-to-LoRA: a document becomes a LoRA adapter in one pass, on any causal LM.

The method itself is `continual_learning.strategies.methods.doc2lora` (Charakorn et al. 2026, arXiv 2602.15902).
"""

from __future__ import annotations

from continual_learning.strategies.methods.doc2lora.checkpoint import (
    load_hypernetwork,
    load_text_hypernetwork,
    save_hypernetwork,
)
from continual_learning.strategies.methods.doc2lora.config import HypernetworkConfig
from continual_learning.strategies.methods.doc2lora.engine import Doc2LoRAEngine
from continual_learning.strategies.methods.doc2lora.hypernetwork import Hypernetwork

__all__ = [
    "Doc2LoRAEngine",
    "Hypernetwork",
    "HypernetworkConfig",
    "load_hypernetwork",
    "load_text_hypernetwork",
    "save_hypernetwork",
]
