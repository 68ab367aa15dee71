"""Fixtures that all tests share: one tiny random Llama, on disk and loaded, for the whole session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sites import Site

    from continual_learning.model.base_model import BaseModel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first: two processes that share the files then end at about the same time."""
    long = {item.path for item in items if item.get_closest_marker("model") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)  # stable: the order is otherwise as it was


def pytest_configure() -> None:
    """Tests press Ctrl-C in processes that inherit this one's signals; a job in the background may ignore it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _calibrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ttt keeps how often a base's neurons are used: counted once a process, and not in every test anew."""
    return tmp_path_factory.mktemp("calibrations")


@pytest.fixture(autouse=True)
def _private_home(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    _calibrations: Path,
) -> None:
    """No test writes to the user's data folder. Tests marked `model` use it: the cached model is there."""
    if request.node.get_closest_marker("model") is None:
        home = tmp_path_factory.mktemp("home")
        (home / "calibration").symlink_to(_calibrations, target_is_directory=True)
        monkeypatch.setenv("CONTINUAL_LEARNING_HOME", str(home))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is the kernel's even where a process is killed; only a power cut would need the disk to have it.

    Tests of the order in which things reach the disk record the calls themselves.
    """
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    """One thread for tiny models, whose products are over before a second thread has woken up."""
    torch = sys.modules.get("torch")
    if torch is not None:
        whole = request.node.get_closest_marker("model") is not None
        # OMP_NUM_THREADS says how many there are for each of several test processes.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1) if whole else 1)


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny random Llama (4 blocks, width 32, window 256) and its tokenizer with a chat template."""
    from tiny_models import make_tiny

    return make_tiny("llama", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tiny_base(tiny_llama_dir: Path) -> BaseModel:
    """The tiny Llama, loaded on the CPU. Shared: a test that patches it must leave it as it was."""
    from continual_learning.model.base_model import BaseModel

    return BaseModel.load(str(tiny_llama_dir), device="cpu")


@pytest.fixture(scope="session")
def embedded_base() -> BaseModel:
    """The embedded model, read once a process, for tests marked `model`. Shared: leave it as it was."""
    from continual_learning.model.base_model import BaseModel

    return BaseModel.load()


@pytest.fixture
def loaded_base(monkeypatch: pytest.MonkeyPatch, embedded_base: BaseModel) -> BaseModel:
    """Whatever loads the embedded model is given the one that is there; other models are loaded."""
    from continual_learning.model.base_model import BaseModel

    real = BaseModel.load

    def load(name: str = embedded_base.name, *rest: Any, **more: Any) -> BaseModel:
        return embedded_base if name == embedded_base.name else real(name, *rest, **more)

    monkeypatch.setattr(BaseModel, "load", load)
    return embedded_base


@pytest.fixture
def site() -> Iterator[Site]:
    """A web site on the loopback interface, with no page yet."""
    from sites import serve

    with serve() as found:
        yield found
