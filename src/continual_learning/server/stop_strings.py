"""Stop strings: an answer ends before the first of them, also where it is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from continual_learning.model.generation import GenerationControl
from continual_learning.types import Answer, TokenCallback


class StopStrings:
    """The stop strings of one answer."""

    def __init__(self, texts: Iterable[str]):
        self._texts = tuple(texts)
        self.reached = False
        """Whether the answer was ended by one of them."""

    def cut(
        self,
        write: Callable[[TokenCallback | None], Answer],
        control: GenerationControl,
        on_token: TokenCallback | None,
    ) -> Answer:
        """What ``write`` writes, up to the first stop string; ``on_token`` receives no character of that.

        The generation ends there.
        """
        if not self._texts:
            return write(on_token)
        text = ""  # up to the stop string, and then no longer
        held = ""  # its end that is not passed on yet: it may be the beginning of a stop string

        def passed(piece: str) -> None:
            nonlocal text, held
            if self.reached:
                return
            held += piece
            at = self._place(held)
            if at is not None:
                self.reached = True
                control.end()
            ready = len(held) - self._begun(held) if at is None else at
            if on_token is not None and ready:
                on_token(held[:ready])
            text, held = text + held[:ready], held[ready:]

        answer = write(passed)
        if self.reached:
            return replace(answer, text=text.lstrip())  # answers begin with no white space
        if held and on_token is not None:
            on_token(held)
        return answer

    def _place(self, text: str) -> int | None:
        """Where the first stop string begins in ``text``."""
        places = [at for stop in self._texts if (at := text.find(stop)) >= 0]
        return min(places, default=None)

    def _begun(self, text: str) -> int:
        """Length of the longest end of ``text`` that may become a stop string."""
        lengths = (n for stop in self._texts for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)
