"""Counted sizes of larger bases: their parameters are those published, and the document is what the count gives."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def sizes() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import sizes
    finally:
        sys.path.remove(str(BENCHMARKS))
    return sizes


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("smollm2-135m", 134.5),
        ("gemma3-270m", 268.1),
        ("Qwen2.5-0.5B", 494.0),
        ("Qwen2.5-1.5B", 1543.7),
        ("Qwen2.5-3B", 3085.9),
        ("Qwen2.5-7B", 7615.6),
    ],
)
def test_the_parameters_are_those_published(sizes: ModuleType, name: str, millions: float) -> None:
    assert sizes.SHAPES[name].weights / 1e6 == pytest.approx(millions, rel=1e-3)


def test_bytes_and_operations_follow_from_the_shape(sizes: ModuleType) -> None:
    shape = sizes.Shape(hidden=10, inner=20, blocks=4, heads=2, key_heads=1, head_size=5, vocabulary=100)
    assert shape.block == 10 * (2 * 10 + 2 * 5 + 3 * 20) and shape.weights == 4 * 900 + 1000
    assert [shape.bytes_in(kind) for kind in ("fp32", "bf16", "int8")] == [18400, 9200, 3600 + 2000]
    assert shape.bytes_in("nf4") == 3600 * 4.25 / 8 + 2000
    assert shape.attention == 10 * (2 * 10 + 2 * 5)
    work = sizes.Work(item_tokens=70, batch_tokens=100, steps=2, look_ups=1, learned_share=0.0)
    branch = 2 * 10 * sizes.NEURONS * 4 + 2 * sizes.NEURONS**2
    expected = 2 * 70 * 3 * 900 + 100 * (2 * 900 + 2 * (2 * 300 + branch) + 2 * 300)
    assert shape.learning_flops(work) == expected


def test_the_document_is_what_the_count_gives(sizes: ModuleType) -> None:
    assert sizes.document(sizes.DOCUMENT.read_text("utf-8")) == sizes.DOCUMENT.read_text("utf-8")
