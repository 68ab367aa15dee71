"""Text of documents as one block of a prompt: the only place where it gets into one.

A document may hold whatever its author wrote, also "ignore the above", or a question with its answer. Nothing can keep
a model from reading that; but a document must not be able to end its block and go on in the prompt's own voice. In a
chat the block is ``<passage>`` to ``</passage>``. (With these tags the embedded model obeyed 1 of 32 orders in
documents, with the label ``Passage:`` 3, and its answers were no worse.) Plain text for completion keeps the label, as
tags cost it F1. Inside there is neither a tag (``&lt;/passage>``) nor a line that begins with a label of a prompt
(``> Question: …``, as in a mail). Special tokens are plain words in any message (see `model.chat_template`).
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


_TAG = re.compile(r"<(?=[\s/]{0,10}passage\b)", re.IGNORECASE)


def passage_block(text: str) -> str:
    """The block of a chat's turn that holds ``text`` of documents; empty if there is none."""
    return f"<passage>\n{quoted(text)}\n</passage>" if text else ""


def passage_lines(text: str) -> str:
    """The same for plain text that the model continues: lines after the label ``Passage:``."""
    return f"Passage: {quoted(text)}" if text else ""


def quoted(text: str) -> str:
    """``text`` without a tag, and with ``> `` before every line that begins with a label of a prompt."""
    return _FORGED.sub("> ", _TAG.sub("&lt;", text))
