"""`serve` as a process, and what it refuses."""

from __future__ import annotations

import builtins
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

MAIN = [sys.executable, "-m", "continual_learning.cli.main"]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_it_serves_until_ctrl_c(tiny_llama_dir: Path, tmp_path: Path) -> None:
    command = [*MAIN, "serve", "--port", "0", "--memory", "work", "--json"]
    flags = ["--model", str(tiny_llama_dir), "--strategy", "frozen"]
    process = subprocess.Popen(
        [*command, *flags], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        told = json.loads("".join(lines))
        assert told["url"].startswith("http://127.0.0.1:") and told["memory"] == "work"
        with urllib.request.urlopen(f"{told['url']}/health", timeout=120) as response:
            assert json.load(response)["model"] == str(tiny_llama_dir)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (130, "", "stopped; every change is on disk\n")


@pytest.mark.model
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_ctrl_c_stops_an_answer(tmp_path: Path, stream: bool) -> None:
    command = [*MAIN, "serve", "--port", "0", "--memory", f"never-kept-{stream}", "--strategy", "frozen"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(re.search(r":(\d+);", process.stdout.readline())[1])  # type: ignore[index]
        body = json.dumps({"question": "Tell me all about foxes.", "max_new_tokens": 3000, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            head = f"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            if stream:
                got = b""
                while got.count(b"data:") < 5:
                    got += client.recv(65536)
            else:
                time.sleep(1)
            pressed = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
            took = time.monotonic() - pressed
    finally:
        process.kill()
    assert (process.returncode, out, error) == (130, "", "stopped; every change is on disk\n")
    assert took < 5  # 300 s if the answer were finished; the rest is room for a busy machine


def test_a_port_in_use_is_told_before_the_model_is_loaded(cli: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = cli("serve", "--port", port, "--model", "nowhere/nothing")
    assert result.code == 2 and str(port) in result.err and "nowhere" not in result.err


def test_other_machines_need_a_token(cli: Any, tmp_path: Path) -> None:
    result = cli("serve", "--host", "0.0.0.0", "--model", "nowhere/nothing")
    assert result.code == 2 and "--token-file" in result.err
    empty = tmp_path / "token"
    empty.write_text("\n")
    assert "no secret" in cli("serve", "--token-file", empty).err
    assert "cannot be read" in cli("serve", "--token-file", tmp_path / "none").err


def test_a_missing_extra_is_named(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "uvicorn":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    result = cli("serve", "--port", "0")
    assert result.code == 1 and "pip install 'continual-learning-slm[server]'" in result.err
