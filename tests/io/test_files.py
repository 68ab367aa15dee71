"""Files that a user names: a pipe, a device and a link stay what they are; a name that is too long is named."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from continual_learning.errors import InputError
from continual_learning.io.files import output_file, write_atomic


def write(path: Path, data: bytes = b"new") -> None:
    with output_file(path) as file:
        file.write(data)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, came = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: came.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(10)
    assert came == [b"new"] and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="needs devices")
def test_a_device_is_written_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = os.stat(os.devnull)
    write(Path(os.devnull))
    (tmp_path / "link").symlink_to(os.devnull)
    write(tmp_path / "link")
    after = os.stat(os.devnull)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    write(Path("/dev/stdout"))
    assert capfd.readouterr().out == "new"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.parent.mkdir()
    if there:
        real.write_bytes(b"old")
    link.symlink_to(real)
    write(link)
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert [p.name for p in real.parent.iterdir()] == ["real"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "日" * 85])
def test_names_as_long_as_may_be(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    write_atomic(tmp_path / name, b"newer")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"newer")]


def test_names_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longer than the file system allows"):
        write(tmp_path / ("n" * 256))
