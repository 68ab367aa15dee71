"""Embedded models in parts, and terms that are to be accepted: joining, pulling, consent."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.io.paths import models_home
from continual_learning.model.base_model import BaseModel
from continual_learning.model.embedded import EMBEDDED, Part, is_available, kept_notices, locate, obtain, pull
from continual_learning.model.generation import generate
from continual_learning.model.licences import accept, is_accepted
from continual_learning.model.loading import load_pretrained

NAME = "gemma3-270m"
PARTS = [b"GGUF, the first part, ", b"the second, ", b"the third, ", b"the last"]
FILES = {"GEMMA_TERMS.html": b"<p>terms", "NOTICE.md": b"# Notice", "SHA256SUMS": b"a5"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The model's parts have other packages, some bytes each, and nobody has accepted its terms."""
    monkeypatch.delenv("CONTINUAL_LEARNING_ACCEPT_LICENCE", raising=False)
    if request.node.get_closest_marker("model"):
        return
    real = EMBEDDED[NAME]
    assert real.terms is not None

    def renamed(part: Part) -> Part:
        return replace(part, package=f"fake_{part.package}")

    whole = b"".join(PARTS)
    small = replace(
        real,
        parts=tuple(map(renamed, real.parts)),
        terms=replace(real.terms, notices=tuple(map(renamed, real.terms.notices))),
        bytes=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
    )
    monkeypatch.setitem(EMBEDDED, NAME, small)


def contents() -> dict[str, dict[str, bytes]]:
    """Import name of each package to its files."""
    model = EMBEDDED[NAME]
    assert model.terms is not None
    packages = {part.package: {part.path: data} for part, data in zip(model.parts, PARTS, strict=True)}
    return packages | {model.terms.notices[0].package: {f"data/{name}": data for name, data in FILES.items()}}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, files in contents().items():
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("raise RuntimeError('located, never imported')")
        for path, data in files.items():
            (folder / package / path).parent.mkdir(exist_ok=True)
            (folder / package / path).write_bytes(data)
    monkeypatch.syspath_prepend(str(folder))


def make_wheels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels, where the user's own pip settings find them."""
    for package, files in contents().items():
        name = package.removeprefix("fake_")
        with zipfile.ZipFile(folder / f"{name}-1.0.0-py3-none-any.whl", "w") as wheel:
            for path, data in files.items():
                wheel.writestr(f"{package}/{path}", data)
            info = f"{name}-1.0.0.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_installed_parts_are_joined_on_the_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match=r"run `continual-learning model pull gemma3-270m` or `pip install"):
        obtain(NAME)
    install(tmp_path, monkeypatch)
    assert is_available(NAME) and locate(NAME) is None
    path = obtain(NAME)
    assert path.read_bytes() == b"".join(PARTS)
    assert {p.name: p.read_bytes() for p in kept_notices(NAME)} == FILES
    assert {p.parent for p in kept_notices(NAME)} == {path.parent} == {models_home() / NAME}
    assert obtain(NAME) == locate(NAME) == path


def test_pull_joins_the_parts_of_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheels(tmp_path, monkeypatch)
    path = pull(NAME)
    assert path.read_bytes() == b"".join(PARTS)
    assert {p.name for p in path.parent.iterdir()} == {path.name, *FILES}
    assert sorted(p.name for p in models_home().iterdir()) == ["cache", NAME]


@pytest.mark.parametrize("how", ["installed", "pulled"])
def test_a_wrong_sum_leaves_nothing_behind(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PARTS", [*PARTS[:2], b"the damaged, ", PARTS[3]])
    (install if how == "installed" else make_wheels)(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"give 55 bytes with SHA-256 \w{16}…; expected 53 bytes with") as caught:
        (obtain if how == "installed" else pull)(NAME)
    assert "\n" not in str(caught.value)
    assert [p.name for p in models_home().iterdir()] == ["cache"]


def test_a_model_whose_terms_were_not_accepted_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"Gemma terms of use: https://ai\.google\.dev/gemma/terms") as caught:
        load_pretrained(NAME, torch.float32)
    message = str(caught.value)
    assert "`continual-learning model pull gemma3-270m`" in message and "\n" not in message
    assert f"a copy: {tmp_path}" in message and locate(NAME) is None  # nothing was joined yet
    monkeypatch.setenv("CONTINUAL_LEARNING_ACCEPT_LICENCE", "other, gemma3-270m")
    assert is_accepted(NAME)
    with pytest.raises(ModelError, match="is GGUF of version"):  # it is read: these parts are no real model
        load_pretrained(NAME, torch.float32)
    monkeypatch.delenv("CONTINUAL_LEARNING_ACCEPT_LICENCE")
    assert not is_accepted(NAME)
    accept(NAME)
    assert is_accepted(NAME)
    assert is_accepted("smollm2-135m")  # asks nothing


@pytest.mark.model
def test_gemma(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    if not is_available(NAME):
        pytest.skip("gemma3-270m is not installed: `make gemma` installs it")
    monkeypatch.setenv("CONTINUAL_LEARNING_ACCEPT_LICENCE", NAME)
    with caplog.at_level(logging.WARNING):
        base = BaseModel.load(NAME, device="cpu")
    assert caplog.text == ""
    assert (base.block_count, base.hidden_size, base.vocab_size, base.window) == (18, 640, 262_144, 32_768)
    assert not base.chats
    ids = base.encode("The capital of France is Paris. The capital of Italy is", add_special_tokens=True)
    assert ids[:6] == [2, 818, 5279, 529, 7001, 563]  # as Gemma's own tokenizer
    (answer,) = generate(base, [ids], 4)
    assert answer.text.startswith(" Rome.")
