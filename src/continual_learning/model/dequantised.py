"""GGUF files, dequantised to fp32 once and kept.

Reading a GGUF file takes Transformers 20 s and more. So what it gives is kept as safetensors under the data folder.
From there it is mapped into memory, and a plain Llama or Gemma 3 runs on a network of our own (`network`), because
importing Transformers takes longer than answering. Every file of the copy is checked (size and SHA-256, which is
computed only when the file has changed) before it is used, and a damaged copy is made anew.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from continual_learning.errors import ModelError
from continual_learning.io.file_hashes import file_sha256
from continual_learning.io.paths import model_cache_home
from continual_learning.model.copies import MANIFEST, MANIFEST_FORMAT, USER_FILES, copies, known_hashes, read_copy
from continual_learning.model.gguf_files import Header, check_header, read_header
from continual_learning.model.network import Network, config_of
from continual_learning.model.pretrained import Pretrained, fingerprint, quiet_transformers
from continual_learning.model.tokenizer import Tokenizer, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def load_gguf(gguf: Path, name: str, dtype: torch.dtype, fetch_again: str) -> Pretrained:
    """The model of a GGUF file, from its dequantised copy, which is made first if there is none.

    ``name`` is the embedded model's, else `USER_FILES`. ``fetch_again`` says, in an error, how to replace the file.
    Raises ModelError for a file that cannot be used.
    """
    digest = file_sha256(gguf, known_hashes())[:16]
    cache = model_cache_home() / f"{name}-{digest}-transformers-{importlib.metadata.version('transformers')}"
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache.parent / f"{name}.lock"):
            manifest = read_copy(cache)
            if manifest is None:
                manifest = _build(name, gguf, cache, fetch_again)
    except (OSError, SafetensorError) as error:
        # A full or read-only disk makes answers slow, not impossible.
        log.warning("cannot keep a dequantised copy of %s (%s): loading will take as long every time", name, error)
        dequantised, its_tokenizer, _ = dequantise(gguf, fetch_again)
        digest = fingerprint(dequantised)
        torch.nn.Module.to(dequantised, dtype)
        return Pretrained(dequantised, its_tokenizer, digest)
    model = _read_model(cache, dtype)
    return Pretrained(model, Tokenizer.from_folder(cache), manifest["fingerprint"])


def dequantise(gguf: Path, fetch_again: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Header]:
    """The model of a GGUF file in fp32, as one that was never quantised, its tokenizer, and the file's header.

    Raises ModelError for a file that is not a whole language model, or that Transformers does not read.
    """
    header = read_header(gguf)
    check_header(header)
    from continual_learning.model.gguf_reading import read_with_transformers

    return *read_with_transformers(header, fetch_again), header


def _read_model(folder: Path, dtype: torch.dtype) -> Any:
    if _fits_our_network(folder):
        return torch.nn.Module.to(Network.from_folder(folder), dtype)
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with quiet_transformers():
        return auto.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)


def _fits_our_network(folder: Path) -> bool:
    """Whether our own network computes what this copy needs."""
    try:
        config_of(folder)
    except ModelError:
        return False
    return (folder / "model.safetensors").is_file()


def _build(name: str, gguf: Path, cache: Path, fetch_again: str) -> dict[str, Any]:
    """Dequantise into a temporary folder, then move it into place; the caller holds the lock."""
    called, seconds = gguf.name if name == USER_FILES else name, max(10, round(gguf.stat().st_size / 5e6, -1))
    log.info("preparing %s: this happens once and takes about %.0f seconds", called, seconds)
    for left in cache.parent.glob(f".building-{name}-*"):
        shutil.rmtree(left)  # left by a process that was killed: we hold the lock, so nobody writes there
    aside = Path(tempfile.mkdtemp(prefix=f".building-{name}-", dir=cache.parent))
    try:
        model, tokenizer, header = dequantise(gguf, fetch_again)
        with quiet_transformers():
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
        shorten(aside / "tokenizer.json")
        manifest = {
            "format": MANIFEST_FORMAT,
            "name": name,
            "fingerprint": fingerprint(model),
            "source": str(gguf.absolute()),
            "architecture": header.architecture,
            "licence": header.licence,
            "quantisation": header.quantisation,
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path, known_hashes())}
                for path in sorted(aside.iterdir())
            },
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        for old in _replaced(name, gguf, cache):
            shutil.rmtree(old)
        aside.rename(cache)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return manifest


def _replaced(name: str, gguf: Path, cache: Path) -> Iterator[Path]:
    """Copies that another takes the place of: they would pile up, half a gigabyte each and more.

    Of an embedded model, all; of a user's file, those made from what the file was before, or with another version of
    Transformers, and those that cannot be read.
    """
    same_bytes = cache.name.partition("-transformers-")[0]
    for copy in copies(name):
        same = copy.source == gguf.absolute() or copy.folder.name.startswith(f"{same_bytes}-")
        if name != USER_FILES or same or not copy.manifest:
            yield copy.folder
