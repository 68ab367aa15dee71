"""LoRA, sequentially: one adapter that is trained on document after document.

Hu et al. 2021 (arXiv 2106.09685) by PEFT. Each document goes on with the adapter that the last one left, so later
documents may overwrite earlier ones: the plain baseline of continual learning with few parameters. An exported
adapter is an ordinary PEFT folder.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from continual_learning.errors import InputError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines._finetuning import AdapterConfig
from continual_learning.strategies.baselines._lora import LoRA, peft_state_dict
from continual_learning.strategies.baselines._sequential import SequentialFinetuning


class LoRAConfig(AdapterConfig):
    """Settings of the lora strategy.

    Learning rate, questions and passes are what benchmarks/tune_baselines.py chose; the rest was not tuned.
    """

    learning_rate: float = Field(5e-3, ge=0)
    """AdamW's highest; it rises during the warm-up and falls to a tenth after."""


class SequentialLoRA(SequentialFinetuning[LoRAConfig]):
    """One adapter for all documents, in fp16."""

    summary = "one LoRA adapter (PEFT), trained on one document after the other"
    Config = LoRAConfig
    fixed = ("rank", "alpha")

    @property
    def trainable(self) -> LoRA:
        """The adapter."""
        return LoRA(self.config.rank, self.config.alpha)

    def export(self, base: BaseModel, state: State, folder: Path) -> None:
        """Write the adapter as PEFT does, for `peft.PeftModel.from_pretrained(model, folder)`.

        Raises InputError for a memory that has learned nothing, MismatchError, MissingExtraError.
        """
        from safetensors.torch import save_file

        if not state.meta.documents:
            raise InputError(
                "this memory has learned nothing, so there is no adapter to export; learn a document first"
            )
        self.check_settings(state)
        folder.mkdir(parents=True, exist_ok=True)
        self.trainable.config(base).save_pretrained(str(folder))
        save_file(peft_state_dict(self.start(state)), folder / "adapter_model.safetensors")
