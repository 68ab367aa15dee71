"""`serve`: a memory over HTTP."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.outcome import INTERRUPTED
from continual_learning.cli.output import Output
from continual_learning.errors import InputError, MissingExtraError
from continual_learning.server import MAX_WAITING

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

PORT = 8765
MAX_MEGABYTES = 10
SECONDS_TO_STOP = 1.0

Host = Annotated[str, typer.Option("--host", help="Address to bind; anything but localhost requires a token.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to bind; 0 picks a free one.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="Require the first line of this file as a bearer token in every request."
    ),
]
Megabytes = Annotated[int, typer.Option("--max-megabytes", min=1, help="Maximum size of a request.")]

Waiting = Annotated[
    int,
    typer.Option(
        "--max-waiting", min=0, help="Requests that may wait for the model; more are refused, to be sent again later."
    ),
]


def serve(
    memory: options.Memory = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    speaker: options.Speaker = None,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    token_file: TokenFile = None,
    max_megabytes: Megabytes = MAX_MEGABYTES,
    max_waiting: Waiting = MAX_WAITING,
    as_json: options.Json = False,
) -> None:
    """Serve a memory over HTTP: /learn, /ask and more, and /v1 for OpenAI's clients. Ctrl-C stops it."""
    from continual_learning.cli.session import choose, open_learner
    from continual_learning.server import create_app

    out = Output(as_json)
    token = _token(token_file)
    local = _is_local(host)
    if not local and token is None:
        raise InputError(f"--host {host}: others can reach that address; expected --token-file FILE with a secret too")
    try:
        import uvicorn  # noqa: F401 - before the model is loaded
    except ImportError:
        raise MissingExtraError("the server needs uvicorn; pip install 'continual-learning-slm[server]'") from None
    listening = _listen(host, port)
    with listening:
        choice = choose(memory, strategy, model, settings or (), must_exist=False, speaker=speaker)
        learner = open_learner(choice, speaks=True)
        # A page in a browser may call this machine by any name of its own; only a local server would trust it.
        hosts = ("localhost", "127.0.0.1", "[::1]", "::1", host) if local else ("*",)
        app = create_app(learner, max_megabytes * 1_000_000, hosts, token, max_waiting)
        address, taken = listening.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{taken}"
        out.result({**choice.names, "url": url, "documents": len(learner.documents)})
        spoken = f", {learner.speaker.model.name} speaks" if learner.speaker else ""
        out.line(f"memory {choice.memory!r} ({choice.strategy}, {choice.model}{spoken}) is served at {url}; {url}/docs")
        sys.stdout.flush()
        try:
            _server(app).run(sockets=[listening])
        except KeyboardInterrupt:
            out.note("stopped; every change is on disk")
            if not app.state.work.idle_within(SECONDS_TO_STOP):
                # A long prompt is read, or a step of learning done, without a place to stop at. Versions are
                # written whole or not at all, so nothing is lost; waiting for the thread could take minutes.
                sys.stdout.flush()
                os._exit(INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None


def _server(app: FastAPI) -> uvicorn.Server:
    """uvicorn's server; a signal stops the model at once, so that the connections of its answers close."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.work.close()
            super().handle_exit(sig, frame)

    return Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {file}: cannot be read ({error}); expected a file with a secret") from None
    if not lines or not lines[0].strip() or not lines[0].isascii():
        raise InputError(f"--token-file {file}: its first line is no secret; expected some ASCII characters")
    return lines[0].strip()


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """The socket, taken before the model is loaded: a port in use is reported at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()  # clients that connect while the model is being loaded wait
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot be taken ({error.strerror}); give another one") from None
    return listening
