"""The models on this machine: what there is, how large it is, under which licence, and how it is removed.

Nothing here imports PyTorch. A user's own folder or GGUF file is never touched: what is removed are the copies that
this package made of it.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from continual_learning.errors import InputError, ModelError, UnknownNameError
from continual_learning.io.files import storage_errors
from continual_learning.model.copies import USER_FILES, Copy, copies
from continual_learning.model.embedded import EMBEDDED, is_available, is_installed, locate, pulled_files, pulled_folder
from continual_learning.model.gguf_files import Header, read_header
from continual_learning.model.licences import is_accepted
from continual_learning.model.prepared import all_prepared


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine, with its bytes on disk."""

    name: str
    kind: str
    """``embedded``, ``gguf``, ``hub`` or ``folder``."""
    installed: bool
    """Whether it can be loaded without fetching anything."""
    file: Path | None
    """Its file or folder."""
    bytes: int | None
    copy: Path | None
    """The dequantised copy."""
    copy_bytes: int | None
    licence: str | None
    accepted: bool | None
    """Whether the terms that it comes under were accepted; None if it asks for no consent."""
    prepared: tuple[str, ...] = ()
    """What `model prepare` made for it."""


@dataclass(frozen=True)
class Removal:
    """What `remove` deletes."""

    name: str
    paths: tuple[Path, ...]
    bytes: int
    note: str | None
    """What stays, if something does."""
    prepared: tuple[str, ...] = ()
    """What `model prepare` made for it, which is deleted, too."""

    def carry_out(self) -> None:
        """Delete it. Raises StorageError for a file that cannot be deleted."""
        with storage_errors(f"cannot remove {self.name!r}"):
            for path in self.paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if self.name in EMBEDDED and EMBEDDED[self.name].terms:
                folder = pulled_folder(self.name)
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def models(chosen: str) -> list[ModelFiles]:
    """Embedded models, GGUF files with a dequantised copy, models of the hub's cache, the chosen one, and any other for
    which something was prepared.
    """
    found = [*map(_embedded, EMBEDDED), *_user_files(), *_hub_models()]
    if not any(means(chosen, model) for model in found):
        found.append(_other(chosen))
    for made in all_prepared():
        place = next((n for n, model in enumerate(found) if made.is_for(model.name, model.file)), None)
        if place is None:
            found.append(_other(made.source or made.name))
            place = -1
        found[place] = replace(found[place], prepared=tuple(made.things))
    return found


def describe(name: str) -> dict[str, Any]:
    """Where a model is from, without loading it: ``kind``, ``source``, ``licence``, ``source_quantisation``."""
    model = next((m for m in models(name) if means(name, m)), None)
    assert model is not None  # the chosen one is always among them
    quantisation = None
    if model.file is not None and model.kind in ("embedded", "gguf") and model.file.is_file():
        quantisation = read_header(model.file).quantisation
    elif model.copy is not None:
        quantisation = Copy.of(model.copy).manifest.get("quantisation")
    elif model.file is not None:
        quantisation = _config_quantisation(model.file)
    return {
        "kind": model.kind,
        "source": model.file,
        "licence": model.licence,
        "licence_accepted": model.accepted,
        "source_quantisation": quantisation,
    }


def removal(name: str) -> Removal:
    """What would be deleted for this model: the pulled file, the dequantised copies, and what was prepared for it.

    Raises UnknownNameError for a name that is none of a model here, InputError for a model of which nothing is kept
    here, or that other programs share.
    """
    made = [found for found in all_prepared() if found.is_for(name, Path(name).expanduser())]
    try:
        own = _own_removal(name)
    except InputError:
        if not made:
            raise
        own = Removal(name, (), 0, "the model itself stays")
    same = {str(copy.source) for copy in copies(USER_FILES) if copy.folder in own.paths}
    made += [found for found in all_prepared() if found.source in same and found not in made]
    return replace(
        own,
        paths=(*own.paths, *(found.folder for found in made)),
        bytes=own.bytes + sum(found.bytes for found in made),
        prepared=tuple(thing for found in made for thing in found.things),
    )


def _own_removal(name: str) -> Removal:
    """What is kept of the model itself."""
    if name in EMBEDDED:
        kept = [*pulled_files(name), *(copy.folder for copy in copies(name))]
        note = None
        if is_installed(name):
            requirements = " ".join(r.partition("==")[0] for r in EMBEDDED[name].requirements)
            note = f"its package stays installed; `pip uninstall {requirements}` removes it"
        return Removal(name, tuple(kept), sum(map(_size, kept)), note)
    same = [copy for copy in copies(USER_FILES) if copy.source is not None and _names(name, copy.source)]
    if len({copy.source for copy in same}) > 1:
        paths = ", ".join(sorted(str(copy.source) for copy in same))
        raise InputError(f"model {name!r} names several files, {paths}; expected the path of one")
    if same:
        folders = tuple(copy.folder for copy in same)
        return Removal(name, folders, sum(map(_size, folders)), f"your file {same[0].source} stays")
    if any(model.name == name for model in _hub_models()):
        raise InputError(
            f"model {name!r} is in the Hugging Face cache, which other programs share; `hf cache rm model/{name}` "
            "removes it there"
        )
    if Path(name).expanduser().exists():
        raise InputError(f"{name!r} is your own and is not deleted here; nothing is kept of it in the data folder")
    known = [model.name for model in (*map(_embedded, EMBEDDED), *_user_files())]
    short = {Path(n).name: n for n in known} | {n: n for n in known}
    near = [short[n] for n in difflib.get_close_matches(name, short, n=2, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else "`model list` shows them"
    raise UnknownNameError(f"no model {name!r}; expected one of {', '.join(known)}; {hint}")


def _embedded(name: str) -> ModelFiles:
    embedded, file = EMBEDDED[name], locate(name)
    kept = [file] if file else []
    copy = next(iter(copies(name)), None)
    return ModelFiles(
        name,
        "embedded",
        is_available(name),
        file,
        sum(map(_size, kept)) if kept else None,
        copy.folder if copy else None,
        _size(copy.folder) if copy else None,
        embedded.licence,
        is_accepted(name) if embedded.terms else None,
    )


def _user_files() -> Iterator[ModelFiles]:
    for copy in copies(USER_FILES):
        source = copy.source
        if source is None:
            continue
        there = source if source.is_file() else None
        licence = copy.manifest.get("licence")
        yield ModelFiles(
            str(source),
            "gguf",
            there is not None,
            there,
            _size(there) if there else None,
            copy.folder,
            _size(copy.folder),
            licence if isinstance(licence, str) else None,
            None,
        )


def _hub_models() -> Iterator[ModelFiles]:
    import huggingface_hub

    try:
        repositories = huggingface_hub.scan_cache_dir(huggingface_hub.constants.HF_HUB_CACHE).repos
    except huggingface_hub.errors.CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        if repository.repo_type != "model":
            continue
        latest = max(repository.revisions, key=lambda r: r.last_modified, default=None)
        folder = Path(latest.snapshot_path) if latest else None
        licence = _card_licence(folder) if folder else None
        size = repository.size_on_disk
        yield ModelFiles(repository.repo_id, "hub", folder is not None, folder, size, None, None, licence, None)


def _other(name: str) -> ModelFiles:
    """A model of which nothing is kept here: a file, a folder, or a name of the hub."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        path = next(iter(sorted(path.glob("*.gguf"))), path)
    if path.is_file():
        header = _header(path)
        licence = header.licence if header else None
        return ModelFiles(name, "gguf", header is not None, path, _size(path), None, None, licence, None)
    if path.is_dir():
        return ModelFiles(name, "folder", True, path, _size(path), None, None, _card_licence(path), None)
    kind = "gguf" if path.suffix.lower() == ".gguf" else "folder" if name.startswith((".", "/", "~")) else "hub"
    return ModelFiles(name, kind, False, None, None, None, None, None, None)


def means(name: str, model: ModelFiles) -> bool:
    """Whether a name, or the path of a GGUF file, is that of this model."""
    if model.name == name:
        return True
    path = Path(name).expanduser()
    if model.kind != "gguf" or name in EMBEDDED or not path.exists():
        return False
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.gguf"))), path)
    return Path(model.name).absolute() == path.absolute()


def _names(name: str, source: Path) -> bool:
    return name in (source.name, source.stem) or Path(name).expanduser().absolute() in (source, source.parent)


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except ModelError:  # listed as one that cannot be loaded; loading it says why
        return None


def _card_licence(folder: Path) -> str | None:
    """The licence of a model card, the ``README.md`` of a Hugging Face folder."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    import huggingface_hub

    try:
        licence = (huggingface_hub.metadata_load(card) or {}).get("license")
    except Exception:  # a card is written by hand: what cannot be read names no licence
        return None
    return licence if isinstance(licence, str) else None


def _config_quantisation(folder: Path) -> str | None:
    """How the weights of a Hugging Face folder are kept: its quantisation, else their type."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        method = (config.get("quantization_config") or {}).get("quant_method")
        kept = method or config.get("dtype") or config.get("torch_dtype")
    except (OSError, ValueError, AttributeError):  # loading it says what is wrong
        return None
    return str(kept) if kept else None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
