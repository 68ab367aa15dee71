"""The application: routes that call one Learner and return its results."""

from __future__ import annotations

import hmac
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.encoders import jsonable_encoder
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse

from continual_learning import __version__
from continual_learning.app.learner import Learner
from continual_learning.documents import Document
from continual_learning.errors import ContinualLearningError, InputError, UnknownNameError
from continual_learning.server import openai, problems, schemas
from continual_learning.server.body_limit import BodyLimit
from continual_learning.server.streaming import begun, event, pieces
from continual_learning.types import Answer, LearnReport

KEPT_ANSWERS = 1000


class _Answers:
    """The latest answers by id, for feedback. Safe for use by several threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, answer: Answer) -> dict[str, Any]:
        """The answer as JSON values, with its id."""
        name = uuid.uuid4().hex
        with self._lock:
            self._found[name] = answer
            while len(self._found) > KEPT_ANSWERS:
                self._found.popitem(last=False)
        return {"id": name, **jsonable_encoder(answer)}

    def get(self, name: str) -> Answer:
        """The answer with this id. Raises UnknownNameError."""
        with self._lock:
            if name not in self._found:
                raise UnknownNameError(
                    f"no answer {name!r} among the last {KEPT_ANSWERS}; expected an id that /ask gave"
                )
            return self._found[name]


def build(learner: Learner, max_bytes: int, hosts: Sequence[str], token: str | None) -> FastAPI:
    """The application; see `continual_learning.server.create_app`."""

    def check_token(authorization: Annotated[str | None, Header()] = None) -> None:
        if token is not None and not hmac.compare_digest((authorization or "").encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "expected Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(
        title="Continual Learning SLM",
        version=__version__,
        dependencies=[Depends(check_token)],
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, max_bytes=max_bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    problems.install(app)
    answers = _Answers()
    _talking(app, learner, answers)
    _memory(app, learner)
    app.include_router(openai.router(learner))
    return app


def _talking(app: FastAPI, learner: Learner, answers: _Answers) -> None:
    @app.post("/learn")
    def learn(request: schemas.Learn) -> LearnReport:
        """Learn one document. A refusal is no error: ``accepted`` is false, and ``reason`` says why."""
        document = Document(request.text, " ".join(request.title.split()))
        report = learner.learn(document, qa=[q.model_dump() for q in request.qa])
        assert isinstance(report, LearnReport)  # one document in, one report out
        return report

    @app.post("/ask")
    def ask(request: schemas.Ask) -> Response:
        """Answer questions, in order."""
        question = request.question
        if not request.stream:
            found = learner.ask([question] if isinstance(question, str) else question, request.max_new_tokens)
            return JSONResponse({"answers": [answers.keep(answer) for answer in found]})
        if not isinstance(question, str):
            raise InputError(f"stream with {len(question)} questions; expected one to stream")
        stream = begun(pieces(lambda on_token: learner.ask(question, request.max_new_tokens, on_token)))

        def events() -> Iterator[str]:
            try:
                for piece in stream:
                    yield event({"token": piece} if isinstance(piece, str) else {"answer": answers.keep(piece)})
            except ContinualLearningError as error:
                yield event(problems.body(type(error).__name__, str(error), problems.status_of(error)))

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.post("/feedback")
    def feedback(request: schemas.Feedback) -> dict[str, Any]:
        """Give feedback on an answer."""
        if request.reward is None and request.correction is None:
            raise InputError("neither reward nor correction was given; expected one of them")
        answer = answers.get(request.answer_id)
        result = learner.feedback(answer, reward=request.reward, correction=request.correction)
        return {"taken": True, "result": jsonable_encoder(result)}


def _memory(app: FastAPI, learner: Learner) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the server is up. Waits for no lock."""
        return {
            "status": "ok",
            "version": __version__,
            "model": learner.base.name,
            "strategy": learner.strategy.name,
            "memory": learner.store.name if learner.store else None,
            "documents": len(learner.documents),
        }

    @app.get("/info")
    def info() -> dict[str, Any]:
        """Facts about the model, the strategy and the memory."""
        return learner.info()

    @app.get("/documents")
    def documents() -> dict[str, Any]:
        """The documents of the memory, in the order in which they were learned."""
        return {"documents": jsonable_encoder(learner.documents)}

    @app.get("/history")
    def history() -> dict[str, Any]:
        """All versions, newest first."""
        return {"versions": jsonable_encoder(learner.history)}

    @app.get("/checkpoints")
    def checkpoints() -> dict[str, Any]:
        """Versions with a name."""
        found = learner.store.checkpoints() if learner.store else {}
        return {"checkpoints": [{"name": name, "version": jsonable_encoder(v)} for name, v in found.items()]}

    @app.post("/save")
    def save(request: schemas.Save) -> dict[str, Any]:
        """Name the current version."""
        return {"checkpoint": request.name, "version": jsonable_encoder(learner.save(request.name, request.overwrite))}

    @app.post("/load")
    def load(request: schemas.Load) -> dict[str, Any]:
        """Make a checkpoint or version the current one."""
        learner.load(request.name)
        return documents()

    @app.post("/rollback")
    def rollback(request: schemas.Rollback) -> dict[str, Any]:
        """Undo the last change, or go back to a version."""
        learner.rollback(request.to)
        return documents()

    @app.post("/forget")
    def forget(request: schemas.Forget) -> dict[str, Any]:
        """Remove a document as if it had never been learned."""
        learner.forget(request.document_id)
        return documents()
