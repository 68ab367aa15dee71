"""Loopback servers that speak Ollama's and OpenAI's protocols, for the real clients to talk to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Script:
    """What a server does, and what it was asked."""

    reply: Callable[[Body], str] = lambda body: "plankton"
    """The text for a chat request."""
    models: tuple[str, ...] = ("qwen3.5:9b",)
    context: int = 32768
    capabilities: tuple[str, ...] = ("completion",)
    faults: list[str] = field(default_factory=list)
    """What goes wrong with the next chat requests, one each: slow, cut, garbage, busy, stream-error, length, full,
    unended, no-schema, refuse."""
    requests: list[Body] = field(default_factory=list)
    """Bodies of the chat requests, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    slow_seconds: float = 0.6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def log_message(self, *_: object) -> None:
        """Silence."""

    def body(self) -> Body:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length) or b"{}")

    def send(self, status: int, data: Any, raw: bytes | None = None) -> None:
        payload = json.dumps(data).encode() if raw is None else raw
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def stream(self, lines: list[str], kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            data = line.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Promise more than is sent, and hang up."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"half":')
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def fault(self, body: Body) -> str:
        self.script.requests.append(body)
        self.script.headers.append({name.lower(): value for name, value in self.headers.items()})
        found = self.script.faults.pop(0) if self.script.faults else ""
        if found == "slow":
            time.sleep(self.script.slow_seconds)
        return found


class _Ollama(_Handler):
    def do_GET(self) -> None:
        if self.path == "/api/version":
            self.send(200, {"version": "0.12.0"})
        elif self.path == "/api/tags":
            self.send(200, {"models": [{"model": name, "name": name} for name in self.script.models]})
        else:
            self.send(404, {"error": f"no {self.path}"})

    def do_POST(self) -> None:
        body, script = self.body(), self.script
        if self.path == "/api/show":
            facts = {"general.architecture": "x", "x.context_length": script.context}
            self.send(200, {"model_info": facts, "capabilities": list(script.capabilities)})
            return
        fault = self.fault(body)
        if body["model"] not in script.models:
            self.send(404, {"error": f"model '{body['model']}' not found"})
        elif fault == "cut":
            self.cut()
        elif fault == "garbage":
            self.send(200, None, b"<html>not json</html>")
        elif fault == "busy":
            self.send(503, {"error": "server busy"})
        elif fault == "refuse":
            self.send(400, {"error": "bad request with key sk-abcdefghijklmnop"})
        else:
            self.chat(body, fault)

    def chat(self, body: Body, fault: str) -> None:
        text = self.script.reply(body)
        read = body["options"]["num_ctx"] if fault == "full" else 7
        end: Body = {
            "model": body["model"],
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "length" if fault == "length" else "stop",
            "prompt_eval_count": read,
            "eval_count": 3,
        }
        if not body.get("stream"):
            self.send(200, {**end, "message": {"role": "assistant", "content": text}})
            return
        parts = [text[i : i + 4] for i in range(0, len(text), 4)]
        made = [{"model": body["model"], "message": {"role": "assistant", "content": p}, "done": False} for p in parts]
        lines = [json.dumps(one) + "\n" for one in made]
        if fault == "stream-error":
            lines = [*lines[:1], json.dumps({"error": "out of memory"}) + "\n"]
        elif fault != "unended":
            lines.append(json.dumps(end) + "\n")
        self.stream(lines, "application/x-ndjson")


class _OpenAI(_Handler):
    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": n, "object": "model"} for n in self.script.models]})

    def do_POST(self) -> None:
        body, script = self.body(), self.script
        fault = self.fault(body)
        if body["model"] not in script.models:
            self.send(404, {"error": {"message": f"no model {body['model']}"}})
        elif fault == "no-schema" and "response_format" in body:
            script.faults.insert(0, "no-schema")
            self.send(400, {"error": {"message": "response_format is not supported"}})
        elif fault == "cut":
            self.cut()
        elif fault == "garbage":
            self.send(200, {"what": "ever"})
        elif fault == "busy":
            self.send(503, {"error": {"message": "busy"}})
        elif fault == "refuse":
            key = self.headers.get("Authorization", "")
            self.send(401, {"error": {"message": f"wrong key {key}"}})
        else:
            self.chat(body, fault)

    def chat(self, body: Body, fault: str) -> None:
        text = self.script.reply(body)
        reason = "length" if fault == "length" else "stop"
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        common = {"id": "1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
            self.send(200, {**common, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        chunks = [{"index": 0, "delta": {"content": text[i : i + 4]}} for i in range(0, len(text), 4)]
        if fault != "unended":
            chunks.append({"index": 0, "delta": {}, "finish_reason": reason})
        kind = {**common, "object": "chat.completion.chunk"}
        lines = [f"data: {json.dumps({**kind, 'choices': [c]})}\n\n" for c in chunks]
        lines.append(f"data: {json.dumps({**kind, 'choices': [], 'usage': usage})}\n\n")
        self.stream([*lines, "data: [DONE]\n\n"], "text/event-stream")


@contextmanager
def _serving(handler: type[_Handler], script: Script) -> Iterator[str]:
    bound = type("Bound", (handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def ollama_server(script: Script) -> Iterator[str]:
    """The address of a server that speaks Ollama's protocol."""
    with _serving(_Ollama, script) as url:
        yield url


@contextmanager
def openai_server(script: Script) -> Iterator[str]:
    """The base URL of a server that speaks OpenAI's protocol."""
    with _serving(_OpenAI, script) as url:
        yield f"{url}/v1"
