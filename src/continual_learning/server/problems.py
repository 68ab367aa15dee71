"""Errors as one JSON object: ``{"error": {"type", "message", "code"}}``, and in OpenAI's shape for its clients."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from continual_learning.errors import (
    BusyError,
    ChatModelError,
    ContinualLearningError,
    InputError,
    LearningError,
    MissingExtraError,
    RequestFieldError,
    StoppedError,
    StorageError,
    UnknownNameError,
)

logger = logging.getLogger(__name__)

OPENAI = "/v1/"
"""What the paths of OpenAI's API begin with."""

# The first match counts; every other error of ours is a fault of this machine.
_STATUS: tuple[tuple[type[ContinualLearningError], int], ...] = (
    (UnknownNameError, 404),
    (InputError, 400),
    (LearningError, 422),
    (StorageError, 503),
    (BusyError, 503),
    (StoppedError, 503),
    (ChatModelError, 502),
    (MissingExtraError, 501),
)


def status_of(error: ContinualLearningError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body(path: str, kind: str, message: str, status: int, field: str | None = None) -> dict[str, Any]:
    """The JSON object of an error in a request for ``path``; ``field`` is the part of the request that is at fault."""
    # the client's own words may be in it, and half a character cannot be sent
    message = " ".join(message.split()).encode("utf-8", "replace").decode()
    if not path.startswith(OPENAI):
        return {"error": {"type": kind, "message": message, "code": status}}
    unknown = kind == UnknownNameError.__name__
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error" if status < 500 else "server_error",
            "param": "model" if unknown else field,
            "code": "model_not_found" if unknown else None,
        }
    }


def body_of(path: str, error: ContinualLearningError) -> dict[str, Any]:
    """The JSON object of one of our errors."""
    field = error.field if isinstance(error, RequestFieldError) else None
    return body(path, type(error).__name__, str(error), status_of(error), field)


def install(app: FastAPI) -> None:
    """Make every error of the application come out in this shape."""

    @app.exception_handler(ContinualLearningError)
    def _ours(request: Request, error: ContinualLearningError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, BusyError) else None
        return JSONResponse(body_of(request.url.path, error), status_of(error), headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first, path = error.errors()[0], request.url.path
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        status = 400 if path.startswith(OPENAI) else 422  # as OpenAI does
        return JSONResponse(body(path, "InputError", f"{place}: {first['msg']}; see /docs", status, place), status)

    def told(request: Request, error: Exception) -> JSONResponse:
        status = int(getattr(error, "status_code", 500))
        detail = str(getattr(error, "detail", error))
        headers = getattr(error, "headers", None)
        path = request.url.path
        message = f"{request.method} {path}: {detail}; see /docs"
        return JSONResponse(body(path, "HTTPError", message, status), status, headers)

    for status in (400, 401, 404, 405):
        app.add_exception_handler(status, told)

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> JSONResponse:
        path = request.url.path
        logger.error("%s %s: %s: %s", request.method, path, type(error).__name__, error)
        message = f"{type(error).__name__}; this was not expected, the server's log has more"
        return JSONResponse(body(path, type(error).__name__, message, 500), 500)
