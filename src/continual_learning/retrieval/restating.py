"""A question as the beginning of a statement: "Who mapped the Alta Vista Tract?" as "Mapped the Alta Vista Tract".

What a model expects behind a question is an answer, behind the beginning of a statement its rest, and that is what a
document has: so the hidden state behind this is nearer to the document's. By rule and crude; it is never shown.
"""

from __future__ import annotations

import re

_ASKING = re.compile(
    r"(?:(?:in|on|at|by|to|from|for|of|with|under) )?(?:what|which|who|whom|whose|when|where|why|how)\b"
    r"(?: (?:many|much|long|often|far|old|year|type of|kind of)\b)?\s*",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(r"(?:did|does|do|is|are|was|were|has|have|had|can|could|will|would|should)\s+", re.IGNORECASE)


def restated(question: str) -> str:
    """The question without its mark, question word and auxiliary verb; never empty where the question is not."""
    bare = question.strip().rstrip("?").strip()
    rest = _ASKING.sub("", bare, count=1) if _ASKING.match(bare) else bare
    rest = _AUXILIARY.sub("", rest, count=1) if _AUXILIARY.match(rest) else rest
    rest = rest or bare or question
    return rest[:1].upper() + rest[1:]
