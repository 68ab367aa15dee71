"""Where hypernetworks come from: the package, `model prepare`, a file or folder, or the hub."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from continual_learning.errors import ModelNotFoundError
from continual_learning.model.prepared import find_prepared

PUBLISHED_FILE = "pytorch_model.bin"
PREPARED = "hypernetwork"
"""Folder of one that `model prepare` made, in the folder of its base."""
SHIPPED = Path(str(files("continual_learning"))) / "data" / "hypernetworks"
SHIPPED_BASES = ("smollm2-135m",)


@dataclass(frozen=True)
class Published:
    """A hypernetwork on the hub, and how the texts that it was trained on were formatted."""

    repository: str
    file: str
    affixes: tuple[str, str]
    """Text before and after every chunk of a document, special tokens by name."""


# SakanaAI trained with an empty system turn, which the base's own chat template cannot write: it trims the two empty
# lines that remain of it.
PUBLISHED: dict[str, Published] = {
    "google/gemma-2-2b-it": Published(
        "SakanaAI/doc-to-lora",
        "gemma_demo/checkpoint-80000/pytorch_model.bin",
        ("<bos><start_of_turn>user\n\n\n", "<end_of_turn>\n<start_of_turn>model\n"),
    ),
}


def published_for(base_name: str) -> Published | None:
    """Return the published hypernetwork of a base, given by its hub name or the name of a local folder with a copy."""
    given = Path(base_name).name.lower()
    return next((found for name, found in PUBLISHED.items() if name.rpartition("/")[2].lower() == given), None)


def shipped_for(base_name: str) -> Path | None:
    """Return the folder of the hypernetwork shipped with this package for a base; None if there is none."""
    folder = SHIPPED / base_name
    return folder if base_name in SHIPPED_BASES and folder.is_dir() else None


def default_for(base_name: str, fingerprint: str | None) -> str | None:
    """Return the hypernetwork that is used for a base unless another is named; None if there is none.

    It is the one that ships, else the one that was prepared for the ``fingerprint``, else the published one's hub name.
    """
    prepared = find_prepared(fingerprint, PREPARED) if fingerprint is not None else None
    if found := shipped_for(base_name) or prepared:
        return str(found)
    published = published_for(base_name)
    return f"{published.repository}/{published.file}" if published else None


def locate(source: str) -> Path:
    """Return the file or folder of a hypernetwork, downloading it if it is not in the hub's cache yet.

    ``source`` is a local path, ``owner/repository`` or ``owner/repository/path/in/it``. Raises ModelNotFoundError.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    parts = source.split("/")
    if path.is_absolute() or source.startswith((".", "~")) or len(parts) < 2 or "" in parts:
        raise ModelNotFoundError(
            f"hypernetwork {source!r} was not found; expected a file or folder that exists, or a name on the Hugging "
            "Face hub such as SakanaAI/doc-to-lora: check the path"
        )
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    known = next((p.file for p in PUBLISHED.values() if p.repository == repository), PUBLISHED_FILE)
    return _download(repository, file or known)


def no_hypernetwork(base_name: str, mode: str = "doc") -> str:
    """Return what to tell a user who has no hypernetwork."""
    if mode == "text":
        return (
            f"no text hypernetwork for the base {base_name!r}, and none is published: set hypernetwork to the folder "
            "of one that was trained for it, or learn documents with another strategy, such as ttt"
        )
    return (
        f"no hypernetwork for the base {base_name!r}, which Doc-to-LoRA needs; `continual-learning model prepare "
        f"{shlex.quote(base_name)} --only {PREPARED}` makes one (sooner with --quick); or set hypernetwork to the file "
        f"or folder of one, use a base that has one ({', '.join((*SHIPPED_BASES, *PUBLISHED))}), or learn with another "
        "strategy, such as ttt"
    )


def _download(repository: str, file: str) -> Path:
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # the hub client passes on the errors of its HTTP library, and that library changes
        if isinstance(error, GatedRepoError | RepositoryNotFoundError):
            hint = (
                f"log in with `hf auth login`, accept its terms on huggingface.co/{repository} if it has any, or check "
                "the name"
            )
        elif isinstance(error, LocalEntryNotFoundError):
            hint = "it is not in the cache and the hub cannot be reached: check the network"
        else:
            hint = "check the name and the network"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise ModelNotFoundError(
            f"hypernetwork {repository}/{file} could not be fetched ({type(error).__name__}: {lines[0][:160]}); {hint}"
            ", or download it elsewhere and set hypernetwork to the file"
        ) from error
