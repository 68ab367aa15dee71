"""Text of documents as one block of a prompt: the only place where it gets into one.

A document may hold whatever its author wrote, also "ignore the above", or a question with its answer. Nothing can keep
a model from reading that; but a document must not be able to end its block and go on in the prompt's own voice. The
block begins with ``Passage:`` and ends where a line begins with another label of a prompt. So no line inside begins
with one: such a line is quoted, ``> Question: …``, as in a mail. Special tokens are plain words in any message (see
`model.chat_template`).
"""

from __future__ import annotations

import re

# Labels of the prompts in `in_prompt` and in ace, and of a conversation without a chat template.
LABELS = (
    "Passage", "Question", "Answer", "Answer given", "Reasoning", "Right answer", "Strategies",
    "Strategies that were used", "System", "User", "Assistant",
)  # fmt: skip
# Whatever ends the line before, as `str.splitlines` knows it. Spaces and marks of Markdown may precede a label.
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_FORGED = re.compile(
    rf"(?:^|(?<=[{_BREAKS}]))(?!>)(?=[^\w{_BREAKS}]{{0,10}}(?:{'|'.join(LABELS)})[^\w{_BREAKS}]{{0,4}}[:：])",
    re.IGNORECASE,
)


def passage_block(text: str) -> str:
    """The block of a prompt that holds ``text`` of documents; empty if there is none."""
    return f"Passage: {quoted(text)}" if text else ""


def quoted(text: str) -> str:
    """``text`` with ``> `` before every line that begins with a label of a prompt; any other text as it is."""
    return _FORGED.sub("> ", text)
