"""The application: routes that call one Learner and return its results."""

from __future__ import annotations

import hmac
import threading
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse

from continual_learning import __version__
from continual_learning.app.learner import Learner
from continual_learning.documents import Document
from continual_learning.errors import ContinualLearningError, InputError, UnknownNameError
from continual_learning.model.generation import GenerationControl
from continual_learning.server import docs_page, openai, problems, schemas
from continual_learning.server.body_limit import BodyLimit
from continual_learning.server.streaming import begun, event, pieces
from continual_learning.server.work_queue import WorkQueue
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


def build(learner: Learner, max_bytes: int, hosts: Sequence[str], token: str | None, max_waiting: int) -> FastAPI:
    """The application; see `continual_learning.server.create_app`."""

    def check_token(authorization: Annotated[str | None, Header()] = None) -> None:
        if token is not None and not hmac.compare_digest((authorization or "").encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "expected Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    work = WorkQueue(max_waiting)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = FastAPI(
        title="Continual Learning SLM",
        version=__version__,
        dependencies=[Depends(check_token)],
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.work = work
    app.add_middleware(BodyLimit, max_bytes=max_bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    problems.install(app)
    docs_page.install(app)
    answers = _Answers()
    _talking(app, learner, answers, work)
    _memory(app, learner, work)
    app.include_router(openai.router(learner, work))
    return app


def _talking(app: FastAPI, learner: Learner, answers: _Answers, work: WorkQueue) -> None:
    @app.post("/learn")
    async def learn(body: schemas.Learn, request: Request) -> LearnReport:
        """Learn one document. A refusal is no error: ``accepted`` is false, and ``reason`` says why.

        Once begun, it is finished even if the client goes away.
        """
        document = Document(body.text, " ".join(body.title.split()))
        qa = [q.model_dump() for q in body.qa]

        def learned(control: GenerationControl) -> LearnReport:
            report = learner.learn(document, qa=qa, progress=lambda _step: control.check())
            assert isinstance(report, LearnReport)  # one document in, one report out
            return report

        # a proxy that waits for a minute only must not undo the learning of minutes
        return await work.result(request, learned, stoppable=False)

    @app.post("/ask")
    async def ask(body: schemas.Ask, request: Request) -> Response:
        """Answer questions, in order."""
        question, limit = body.question, body.max_new_tokens
        if not body.stream:
            questions = [question] if isinstance(question, str) else question
            found = await work.result(request, lambda _control: learner.ask(questions, limit))
            return JSONResponse({"answers": [answers.keep(answer) for answer in found]})
        if not isinstance(question, str):
            raise InputError(f"stream with {len(question)} questions; expected one to stream")
        stream = await begun(pieces(work, request, lambda _control, on_token: learner.ask(question, limit, on_token)))

        async def events() -> AsyncIterator[str]:
            try:
                async for piece in stream:
                    yield event({"token": piece} if isinstance(piece, str) else {"answer": answers.keep(piece)})
            except ContinualLearningError as error:
                yield event(problems.body_of(request.url.path, error))

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.post("/feedback")
    async def feedback(body: schemas.Feedback, request: Request) -> dict[str, Any]:
        """Give feedback on an answer."""
        if body.reward is None and body.correction is None:
            raise InputError("neither reward nor correction was given; expected one of them")
        answer = answers.get(body.answer_id)

        def taken(_control: GenerationControl) -> Any:
            return learner.feedback(answer, reward=body.reward, correction=body.correction)

        return {"taken": True, "result": jsonable_encoder(await work.result(request, taken))}


def _memory(app: FastAPI, learner: Learner, work: WorkQueue) -> None:
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
    async def info(request: Request) -> dict[str, Any]:
        """Facts about the model, the strategy and the memory."""
        return await work.result(request, lambda _control: learner.info())

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
    async def save(body: schemas.Save, request: Request) -> dict[str, Any]:
        """Name the current version."""
        version = await work.result(request, lambda _control: learner.save(body.name, body.overwrite))
        return {"checkpoint": body.name, "version": jsonable_encoder(version)}

    @app.post("/load")
    async def load(body: schemas.Load, request: Request) -> dict[str, Any]:
        """Make a checkpoint or version the current one."""
        await work.result(request, lambda _control: learner.load(body.name))
        return documents()

    @app.post("/rollback")
    async def rollback(body: schemas.Rollback, request: Request) -> dict[str, Any]:
        """Undo the last change, or go back to a version."""
        await work.result(request, lambda _control: learner.rollback(body.to))
        return documents()

    @app.post("/forget")
    async def forget(body: schemas.Forget, request: Request) -> dict[str, Any]:
        """Remove a document as if it had never been learned."""
        await work.result(request, lambda _control: learner.forget(body.document_id), stoppable=False)
        return documents()
