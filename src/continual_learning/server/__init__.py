"""HTTP server: one Learner behind an API of its own and an OpenAI-compatible one.

    app.py      the application and its routes
    openai.py   /v1/models and /v1/chat/completions
    schemas.py  the contents of requests
    body_limit.py  the bound on a request's size
    work_queue.py  requests for the model: one at a time, a bounded number waiting
    streaming.py  answers piece by piece, as server-sent events
    problems.py   errors as one JSON object
    docs_page.py  /docs, without a content delivery network

Needs the extra ``server``: ``pip install 'continual-learning-slm[server]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continual_learning.errors import MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from continual_learning.app.learner import Learner

MAX_BYTES = 10_000_000
"""Largest request, equal to the largest document file."""
MAX_WAITING = 32
"""Requests that may wait for the model while another has it."""


def create_app(
    learner: Learner,
    max_bytes: int = MAX_BYTES,
    hosts: tuple[str, ...] = ("*",),
    token: str | None = None,
    max_waiting: int = MAX_WAITING,
) -> FastAPI:
    """The application for one learner. Requests that need it take turns; ``app.state.work`` is their WorkQueue.

    ``max_bytes`` bounds a request's body; ``hosts`` are the host names that a request may use for this server (so a web
    page cannot reach it under a name of its own); with a ``token``, requests must bring it as ``Authorization:
    Bearer``. With ``max_waiting`` requests waiting, the next is refused (503, ``Retry-After``). Raises
    MissingExtraError without FastAPI.
    """
    try:
        from continual_learning.server import app
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the server needs {error.name}; pip install 'continual-learning-slm[server]'"
        ) from None
    return app.build(learner, max_bytes, hosts, token, max_waiting)
