"""A long conversation: facts are told along the way among other talk, then asked for without the conversation.

Facts and talk ship with the package, in two parts: settings are tuned on the part ``tune`` and reported on ``report``.
"""

from __future__ import annotations

from importlib.resources import files
from json import loads
from random import Random

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError

PARTS = ("tune", "report")


def conversation_dataset(part: str = "report", turns: int = 40, facts: int = 20, seed: int = 0) -> Dataset:
    """``turns`` turns, each a document; ``facts`` of them tell something and have a question about it.

    Which facts are told, and where, depends on the seed. Conversations longer than the available talk repeat it
    with a word changed, since a memory holds a text only once. Raises InputError.
    """
    from continual_learning.types import QuestionAnswer

    path = files("continual_learning") / "data" / "conversation.jsonl"
    rows = [loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = [row for row in rows if row["part"] == part]
    if part not in PARTS:
        raise InputError(f"part {part!r}; expected one of {', '.join(PARTS)}")
    if not 1 <= facts <= min(len(told), turns):
        raise InputError(f"facts = {facts}; expected 1 to {min(len(told), turns)}, as many as there are and fit")
    rng = Random(f"conversation {seed}")
    chosen = rng.sample(told, facts)
    talk = rng.sample([row["say"] for row in rows if row["part"] == "filler"], 40)
    places = sorted(rng.sample(range(turns), facts))
    documents = []
    for number in range(turns):
        source = f"turn {number + 1}"
        if number in places:
            row = chosen[places.index(number)]
            qa = (QuestionAnswer(row["question"], tuple(row["answer"])),)
            documents.append(QADocument(Document(row["say"], "", source), qa))
        else:
            spoken = number - sum(place < number for place in places)
            again = spoken // len(talk)
            text = talk[spoken % len(talk)] + (f" ({again + 1})" if again else "")
            documents.append(QADocument(Document(text, "", source), ()))
    return Dataset(f"conversation-{turns}", "written for this package", tuple(documents), split=part, seed=seed)
