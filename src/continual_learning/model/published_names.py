"""Names under which other programs find a base model: what an exported adapter says about its base."""

from __future__ import annotations

from collections.abc import Mapping

from continual_learning.model.embedded import EMBEDDED


def published_name(name: str) -> str:
    """The name of a base model that other programs can load.

    For an embedded model, its name on the Hugging Face hub; any other name is that of a folder or of the hub already
    and is returned unchanged.
    """
    return EMBEDDED[name].hub_name if name in EMBEDDED else name


def adapter_metadata(base_name: str, base_fingerprint: str) -> Mapping[str, str]:
    """The metadata of ``adapter_model.safetensors``: the base under its name here and its exact weights.

    ``adapter_config.json`` names the base for other programs, and PEFT warns of keys there that it does not know.
    """
    return {"format": "pt", "base_name": base_name, "base_fingerprint": base_fingerprint}
