"""Chunks of documents: one memory layout, one search, for every strategy that keeps texts in chunks."""

from __future__ import annotations

import pytest

from continual_learning.documents import Document
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.chunk_store import ChunkFinder, chunk_count, kept_chunks, whole_text
from continual_learning.retrieval.routing import look_ups
from continual_learning.strategies.base import make_strategy

JELLIES = Document("Comb jellies swim with eight rows of cilia. Most of them eat plankton.", "Ctenophora")
MILL = Document("The Harrow mill ground barley until 1887. Its millstones came from Lund by barge.", "The mill")


@pytest.mark.parametrize("name", ["rag", "jitrl_mvp", "jitrl_full", "ace"])
def test_every_strategy_with_chunks_keeps_them_alike(name: str, tiny_base: BaseModel) -> None:
    strategy = make_strategy(name)
    state = strategy.init(tiny_base)
    for document in (JELLIES, MILL):
        state, report = strategy.learn(tiny_base, state, document)
        assert report.accepted
    assert kept_chunks(state) == {JELLIES.id: [JELLIES.text], MILL.id: [MILL.text]} and chunk_count(state) == 2
    [found] = ChunkFinder().find(state, "What did the Harrow mill grind until 1887?")
    assert (found.key, found.title, found.source.quote) == ((MILL.id, 0), "The mill", MILL.text)
    assert kept_chunks(strategy.forget(tiny_base, state, MILL.id)) == {JELLIES.id: [JELLIES.text]}


def test_a_follow_up_is_looked_up_with_the_users_turn_before_it() -> None:
    talk = [
        {"role": "user", "content": "Who opened it?"},
        {"role": "user", "content": "What did the mill grind?"},
        {"role": "assistant", "content": "Barley."},
    ]
    assert look_ups("Until when?", talk) == ["Until when?", "What did the mill grind? Until when?"]
    assert look_ups("Until when?", talk[2:]) == ["Until when?"] == look_ups("Until when?", [])


@pytest.mark.parametrize(
    "text",
    [
        "灯塔很高。站在港口。它很老。林海设计了它。海很深。船来了。" * 3,
        "ประภาคารออร์ลินสร้างในปีหนึ่งพันเก้าร้อยเจ็ด " * 4,
        "The key is " + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0" * 8 + " now. It opens the mill. The mill is old.",
        "A. A. A. A. It is so. It is so. It is so. It is so. It is so. It is so.",
        JELLIES.text + " " + MILL.text,
    ],
)
def test_chunks_join_to_the_text_in_every_script(text: str, tiny_base: BaseModel) -> None:
    strategy = make_strategy("rag", {"chunk_tokens": 40, "overlap_tokens": 16})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text, "Orrin"))
    assert chunk_count(state) > 1
    assert whole_text(state, state.meta.documents[0].id) == " ".join(text.split())
