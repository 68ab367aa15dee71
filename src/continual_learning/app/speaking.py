"""A speaker: another chat model that words the answers, on a server or from a file.

The memory does what it does without one: it routes the question, and recites or retrieves the words that its answer
rests on (`Source.text`). The speaker then answers from these words alone, and has them as one block of its prompt
(`passage_block`). Sources, confidence and alternatives remain the memory's. The reader's own span is not shown to the
speaker: where it is wrong it would mislead a model that reads better.

    origin memory   the speaker answers from the words that were read. If it says that they do not say, the answer is
                    our refusal, with origin unknown.
    origin unknown  the refusal stays as it is; the speaker is not asked.
    origin model    the speaker answers from its own knowledge; the base is not asked.

An answer whose memory has no words to show, as when an adapter changed the weights, stays as it is, and so does one
that feedback is about. Nothing about the speaker gets into the memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from continual_learning.chat_models import ChatModel, ChatReply, ChatRequest, Connection, named_model
from continual_learning.errors import ChatModelError
from continual_learning.model.chat_template import Message, user
from continual_learning.model.generation import GenerationControl, current_control
from continual_learning.reading.answering import does_not_say, nearest_sentence
from continual_learning.reading.passage_block import passage_block
from continual_learning.reading.turns import latest_turns
from continual_learning.types import Answer, Source, TokenCallback

MARKER = "NOT_IN_PASSAGE"
"""What a speaker is told to write if the passage does not say."""
SECTION = "speaker"
"""Section of the settings file that is about speakers."""
NO_WORDS = "the speaker was not asked: this memory keeps no words that another model could read"

_RULE = (
    "Answer the question from the passage alone, {length}, or with a short list or summary if one is asked for. Write "
    f"numbers, names, units and commands exactly as the passage does. If the passage does not say, write only {MARKER}."
)
_FEW_WORDS, _ONE_SENTENCE = "with as few words as possible", "in one short sentence"
# The marker, or what small models write in its place: "The passage does not specify what …", "Not in the passage."
_REFUSED = re.compile(
    r"\bnot[_ ]+(?:(?:mentioned|stated|specified|said|given|provided|found) )?in[_ ]+(?:the[_ ]+)?(?:passage|text)\b"
    r"|\b(?:passage|text) (?:does not|doesn['’]t) (?:\w+ly )?"
    r"(?:say|specify|mention|state|provide|contain|give|indicate|include|tell|name|answer)\b",
    re.IGNORECASE,
)
_THINKING = re.compile(r"\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
_HELD = 40  # characters: a refusal is recognised before any of it is shown, unless it begins later
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_ORDINAL = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)  # of a list


class Speaker:
    """Words answers with a chat model."""

    def __init__(self, model: ChatModel):
        self.model = model

    @classmethod
    def open(cls, name: str, connection: Connection | None = None) -> Speaker:
        """The speaker ``ollama:NAME``, ``openai:URL#NAME`` or ``llamacpp:FILE.gguf``, ready to speak.

        Raises ConfigError for a name of another form, InputError for a file that cannot be used, MissingExtraError, and
        ChatModelError if the server cannot be reached or does not have the model.
        """
        model = named_model(name, connection or Connection(section=SECTION))
        model.prepare()
        return cls(model)

    def word(
        self,
        answer: Answer,
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
        sentence: bool = False,
    ) -> Answer:
        """The memory's answer in the speaker's words; with ``sentence``, one sentence. ``on_token`` streams them.

        A reply that turns into a refusal after its beginning was streamed is followed by our refusal, on a new line.
        Raises ChatModelError if the speaker cannot be used or writes nothing.
        """
        passages = [source for source in answer.sources if source.text.strip()]
        from_itself = answer.origin == "model"
        if answer.origin == "unknown" or not (passages or from_itself):
            if on_token is not None:
                on_token(answer.text)
            return answer if answer.origin == "unknown" else replace(answer, notes=(*answer.notes, NO_WORDS))
        started = time.perf_counter()
        if from_itself:
            messages, notes = self._fitted(history, lambda _: answer.question, (), max_new_tokens)
        else:
            rule = _RULE.format(length=_ONE_SENTENCE if sentence else _FEW_WORDS)
            messages, notes = self._fitted(
                history, lambda kept: _turn(rule, kept, answer.question), passages, max_new_tokens
            )
        writing = _Writing(on_token, current_control(), refuses=not from_itself)
        reply = self._reply(ChatRequest(tuple(messages), max_new_tokens), writing)
        spoken = replace(
            answer,
            tokens=reply.tokens,
            seconds=answer.seconds + time.perf_counter() - started,
            speaker=self.model.name,
            origin="model" if from_itself else "memory",
        )
        if writing.refused:
            nearest, words = nearest_sentence(answer.question, passages)
            refusal = does_not_say(passages[nearest].title, words)
            writing.end(refusal)
            return replace(spoken, text=refusal, origin="unknown", confidence=None, notes=(*answer.notes, *notes))
        text = writing.shown(final=True)
        if not text:
            raise ChatModelError(
                f"speaker {self.model.name!r} wrote no answer within {max_new_tokens} tokens; allow more, "
                "or choose another speaker"
            )
        writing.end("")
        if reply.truncated:
            notes = (*notes, f"the answer was cut at {max_new_tokens} tokens")
        if not from_itself and (foreign := _foreign_numbers(text, (answer.question, *(p.text for p in passages)))):
            notes = (*notes, f"not in what was read: {', '.join(foreign)}")
        confidence = None if from_itself else answer.confidence  # the memory has none in what it had no part in
        return replace(spoken, text=text, confidence=confidence, notes=(*answer.notes, *notes))

    # -- inside ------------------------------------------------------------------------------------

    def _fitted(
        self,
        history: Sequence[Message],
        turn: Callable[[Sequence[Source]], str],
        passages: Sequence[Source],
        max_new_tokens: int,
    ) -> tuple[list[Message], tuple[str, ...]]:
        """The conversation for the speaker, and notes on what does not fit into its window.

        The passages that the memory finds least relevant are left out first; of the last one, what is far from the
        words that the memory quotes; then the oldest turns.
        """
        window = self.model.window

        def fits(messages: Sequence[Message]) -> bool:
            return self.model.count_tokens(messages) + max_new_tokens <= window

        kept, notes = list(passages), []
        while len(kept) > 1 and not fits([user(turn(kept))]):
            del kept[min(range(len(kept)), key=lambda i: (kept[i].score, -i))]
        while kept and not fits([user(turn(kept))]) and len(kept[0].text) > 1:
            kept = [replace(kept[0], text=_around(kept[0], len(kept[0].text) * 4 // 5))]
        read, given = sum(len(p.text) for p in kept), sum(len(p.text) for p in passages)
        if read < given:
            notes.append(f"{given - read} of {given} characters did not fit into the speaker's window of {window}")
        last = user(turn(kept))
        turns = latest_turns(history, lambda earlier: fits([*earlier, last]))
        if len(turns) < len(history):
            dropped = len(history) - len(turns)
            notes.append(f"the oldest {dropped} turns did not fit into the speaker's window of {window} tokens")
        return [*turns, last], tuple(notes)

    def _reply(self, request: ChatRequest, writing: _Writing) -> ChatReply:
        try:
            [reply] = self.model.complete([request], writing if writing.streams else None)
        except _Ended:  # what was written so far is all that is wanted
            return ChatReply(writing.text, 0, writing.pieces, 0.0)
        writing.text = reply.text
        return reply


class _Ended(Exception):
    """Raised inside a stream to end it."""


class _Writing:
    """A reply while it is written: passed on piece by piece, without the speaker's thinking and without a refusal."""

    def __init__(self, on_token: TokenCallback | None, control: GenerationControl | None, refuses: bool):
        self.text = ""
        self.pieces = 0
        self.streams = on_token is not None or control is not None
        self._on_token = on_token
        self._control = control
        self._refuses = refuses
        self._passed = ""

    def __call__(self, piece: str) -> None:
        """Take a piece of the reply. Raises StoppedError if its result is not wanted any more."""
        if self._control is not None:
            self._control.check()
        self.text += piece
        self.pieces += 1
        self._pass_on(self.shown())
        if self._control is not None and self._control.ended:
            raise _Ended

    @property
    def refused(self) -> bool:
        """Whether the speaker said that the passage does not say."""
        answer = self._answer().rstrip()
        cut = len(answer) > 3 and MARKER.startswith(answer)
        return self._refuses and (cut or _REFUSED.search(answer) is not None)

    def shown(self, final: bool = False) -> str:
        """The answer so far, as far as it is certain that it is one."""
        answer = self._answer()
        if final:
            return answer.rstrip()
        if not self._refuses:
            return "" if "<think>".startswith(answer) else answer.rstrip()
        return "" if self.refused or len(answer) < _HELD else answer[: _before_marker(answer)].rstrip()

    def end(self, instead: str) -> None:
        """Pass on what is left of the answer, or ``instead`` in its place."""
        if instead and self._on_token is not None:
            self._on_token(f"\n{instead}" if self._passed else instead)
        elif not instead:
            self._pass_on(self.shown(final=True))

    def _answer(self) -> str:
        thinking = _THINKING.match(self.text)
        return self.text[thinking.end() if thinking else 0 :].lstrip()

    def _pass_on(self, text: str) -> None:
        if self._on_token is not None and len(text) > len(self._passed):
            self._on_token(text[len(self._passed) :])
            self._passed = text


def _before_marker(text: str) -> int:
    """Where the end of ``text`` begins that may become a refusal: its last words, from a "not" on."""
    found = re.search(r"\b(?:n|no|not[_ ]*(?:i|in[_ ]*(?:t|th|the[_ ]*)?(?:p\w*)?)?)$", text, re.IGNORECASE)
    return found.start() if found else len(text)


def _around(source: Source, size: int) -> str:
    """``size`` characters of a source's text, with its quote in the middle."""
    begin = max(0, source.text.find(source.quote)) + len(source.quote) // 2 - size // 2
    begin = max(0, min(begin, len(source.text) - size))
    return source.text[begin : begin + size]


def _turn(rule: str, passages: Sequence[Source], question: str) -> str:
    block: list[str] = []
    title = None
    for passage in passages:
        if passage.title and passage.title != title:
            block.append(passage.title)
        title = passage.title
        block.append(passage.text)
    return "\n\n".join((rule, passage_block("\n\n".join(block)), f"Question: {question}"))


def _foreign_numbers(text: str, read: Sequence[str]) -> list[str]:
    """Numbers in ``text`` that are in none of the texts that were read, separators of thousands aside."""
    known = {number.replace(",", "") for one in read for number in _NUMBER.findall(one)}
    return [
        number
        for number in dict.fromkeys(_NUMBER.findall(_ORDINAL.sub("", text)))
        if number.replace(",", "") not in known
    ]
