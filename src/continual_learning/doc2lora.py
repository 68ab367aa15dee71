"""Doc-to-LoRA: a document becomes an adapter in one pass (Charakorn et al. 2026, arXiv 2602.15902).

config.py        sizes of a hypernetwork, and what it was made for
hypernetwork.py  activations of a document in, LoRA matrices out
checkpoint.py    its files: the published format, read without running it, and safetensors
hub.py           where published ones are
context.py       a document as chunks of tokens, and the base's activations on them
adapter.py       LoRA on the base through PEFT, in use and exported
text_to_lora.py  the same from the description of a task (Text-to-LoRA)
controls.py      whether that description matters
generators.py    the modes doc, text and simulated behind one function
engine.py        the class for users: learn, generate, remove, export
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
