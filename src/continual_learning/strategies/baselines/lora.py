"""LoRA, sequentially: one adapter, trained on document after document.

Hu et al. 2021 (arXiv 2106.09685) by PEFT. Each document continues training the adapter that the last one left, so
later documents may overwrite earlier ones: the plain baseline of continual learning with few parameters. `write_peft`
writes an ordinary PEFT folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.published_names import adapter_metadata
from continual_learning.strategies.base import Cost
from continual_learning.strategies.baselines._finetuning import AdapterConfig
from continual_learning.strategies.baselines._lora import LoRA, adapter_paths, peft_state_dict
from continual_learning.strategies.baselines._sequential import SequentialFinetuning


class LoRAConfig(AdapterConfig):
    """Settings of the lora strategy.

    Learning rate, questions and passes were chosen by benchmarks/lab/tune_baselines.py; the rest was not tuned.
    """

    learning_rate: float = Field(5e-3, ge=0)
    """AdamW's peak learning rate; it rises during the warm-up and then falls to a tenth. It is for weights as large as
    SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""


class SequentialLoRA(SequentialFinetuning[LoRAConfig]):
    """One adapter for all documents, in fp16."""

    summary = "one LoRA adapter (PEFT), trained on one document after the other"
    Config = LoRAConfig
    role = "baseline"
    cost = Cost(
        learn_token=0.35,
        memory_bytes=9.8e6,
        f1={"smollm2-135m": 0.056},
        general_kept=0.12,
    )
    fixed = ("rank", "alpha")

    @property
    def trainable(self) -> LoRA:
        """The adapter."""
        return LoRA(self.config.rank, self.config.alpha)

    def with_document(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        text: str,
        kept: Mapping[str, Tensor],
        record: DocumentRecord,
    ) -> State:
        """Keep the new adapter; the document's record holds what PEFT needs to know about the base."""
        known = {**record.details, "transposed": self.trainable.transposed(base)}
        return super().with_document(base, state, document, text, kept, replace(record, details=known))

    def write_peft(self, state: State, folder: Path) -> Path:
        """Write the adapter as a PEFT folder. Raises InputError if empty, MismatchError, MissingExtraError."""
        if not state.meta.documents:
            raise InputError("this memory has learned nothing; expected at least one document to export: learn one")
        self.check_settings(state)
        # If the memory does not say, PEFT finds out when it loads the adapter, with a warning.
        transposed = any(record.details.get("transposed", False) for record in state.meta.documents)
        adapter = self.start(state)
        config = self.trainable.peft_config(adapter_paths(adapter), transposed, state.meta.base_name)
        with storage_errors(f"adapter {folder.name!r}"):
            make_folder(folder)
            config.save_pretrained(str(folder))
            metadata = adapter_metadata(state.meta.base_name, state.meta.base_fingerprint)
            write_atomic(folder / "adapter_model.safetensors", save(peft_state_dict(adapter), dict(metadata)))
        return folder
