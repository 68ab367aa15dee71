"""`serve`: a memory over HTTP."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output
from continual_learning.errors import InputError, MissingExtraError

PORT = 8765
MAX_MEGABYTES = 10

Host = Annotated[str, typer.Option("--host", help="Address to bind; anything but localhost requires a token.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to bind; 0 picks a free one.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="Require the first line of this file as a bearer token in every request."
    ),
]
Megabytes = Annotated[int, typer.Option("--max-megabytes", min=1, help="Maximum size of a request.")]


def serve(
    memory: options.Memory = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    token_file: TokenFile = None,
    max_megabytes: Megabytes = MAX_MEGABYTES,
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
        import uvicorn
    except ImportError:
        raise MissingExtraError("the server needs uvicorn; pip install 'continual-learning-slm[server]'") from None
    listening = _listen(host, port)
    with listening:
        choice = choose(memory, strategy, model, settings or (), must_exist=False)
        learner = open_learner(choice)
        # A page in a browser may call this machine by any name of its own; only a local server would trust it.
        hosts = ("localhost", "127.0.0.1", "[::1]", "::1", host) if local else ("*",)
        app = create_app(learner, max_megabytes * 1_000_000, hosts, token)
        address, taken = listening.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{taken}"
        out.result({**choice.names, "url": url, "documents": len(learner.documents)})
        out.line(f"memory {choice.memory!r} ({choice.strategy}, {choice.model}) is served at {url}; {url}/docs")
        _flush()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            out.note("stopped; every change is on disk")


def _flush() -> None:
    import sys

    sys.stdout.flush()


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
