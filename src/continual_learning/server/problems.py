"""Errors as one JSON object: ``{"error": {"type", "message", "code"}}``, for our API and OpenAI's clients alike."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from continual_learning.errors import (
    ContinualLearningError,
    InputError,
    LearningError,
    MissingExtraError,
    StorageError,
    UnknownNameError,
)

logger = logging.getLogger(__name__)

# The first match counts; every other error of ours is a fault of this machine.
_STATUS: tuple[tuple[type[ContinualLearningError], int], ...] = (
    (UnknownNameError, 404),
    (InputError, 400),
    (LearningError, 422),
    (StorageError, 503),
    (MissingExtraError, 501),
)


def status_of(error: ContinualLearningError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body(kind: str, message: str, code: int) -> dict[str, Any]:
    """The JSON object of an error."""
    return {"error": {"type": kind, "message": " ".join(message.split()), "code": code}}


def install(app: FastAPI) -> None:
    """Make every error of the application come out in this shape."""

    @app.exception_handler(ContinualLearningError)
    def _ours(_request: Request, error: ContinualLearningError) -> JSONResponse:
        status = status_of(error)
        return JSONResponse(body(type(error).__name__, str(error), status), status)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return JSONResponse(body("InputError", f"{place}: {first['msg']}; see /docs", 422), 422)

    def told(request: Request, error: Exception) -> JSONResponse:
        status = int(getattr(error, "status_code", 500))
        detail = str(getattr(error, "detail", error))
        headers = getattr(error, "headers", None)
        message = f"{request.method} {request.url.path}: {detail}; see /docs"
        return JSONResponse(body("HTTPError", message, status), status, headers)

    for status in (400, 401, 404, 405):
        app.add_exception_handler(status, told)

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
        message = f"{type(error).__name__}; this was not expected, the server's log has more"
        return JSONResponse(body(type(error).__name__, message, 500), 500)
