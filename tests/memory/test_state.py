"""State as a value: its JSON, its parts, its digest."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace

import pytest
import torch
from store_states import ALL_DTYPES, document, make_state

from continual_learning.memory.state import State, StateMeta, once_per_state


def test_metadata_survives_json_text():
    meta = make_state([1, 2], extra={"alpha": 0.1}).meta
    assert StateMeta.from_json(json.loads(json.dumps(meta.to_json()))) == meta


@pytest.mark.parametrize("change", [{"unknown": 1}, {"documents": [{"id": "x"}]}])
def test_metadata_refuses_wrong_fields(change):
    with pytest.raises(TypeError):
        StateMeta.from_json({**make_state([1]).meta.to_json(), **change})


def test_metadata_refuses_missing_documents():
    data = make_state([1]).meta.to_json()
    del data["documents"]
    with pytest.raises(KeyError):
        StateMeta.from_json(data)


def test_document_is_found_by_id():
    meta = make_state([1, 2]).meta
    assert meta.document("doc-0002") == document(2)
    assert meta.document("doc-0003") is None


def test_parts_group_by_the_first_slash_and_sort():
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    state = State({"b/x/y": one, "a/z": two, "b/a": three}, make_state([]).meta)
    assert {part: list(names) for part, names in state.parts.items()} == {"a": ["z"], "b": ["a", "x/y"]}
    assert list(state.parts) == ["a", "b"]
    assert state.parts["b"]["x/y"] is one


def test_bytes_counts_every_element():
    tensors = {"p/a": torch.zeros(3, 2), "p/b": torch.zeros(5, dtype=torch.bfloat16), "p/c": torch.zeros(0, 4)}
    assert State(tensors, make_state([]).meta).bytes == 3 * 2 * 4 + 5 * 2


def test_digest_ignores_order_of_insertion_times_and_paths():
    state = make_state([1, 2])
    shuffled = dict(reversed(list(state.tensors.items())))
    later = tuple(replace(d, learned_at="2030-01-01T00:00:00+00:00", source="/elsewhere") for d in state.meta.documents)
    assert state.with_documents(later, shuffled).digest() == state.digest()


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_digest_takes_every_dtype_and_shape(dtype, shape):
    meta = make_state([]).meta
    zeros = State({"p/x": torch.zeros(shape, dtype=dtype)}, meta)
    ones = State({"p/x": torch.ones(shape, dtype=dtype)}, meta)
    assert zeros.digest() == State({"p/x": torch.zeros(shape, dtype=dtype)}, meta).digest()
    assert (zeros.digest() == ones.digest()) == (0 in shape)


def test_digest_sees_values_names_dtypes_shapes_and_documents():
    x = torch.arange(6.0)
    meta = make_state([]).meta
    states = [
        State({"p/x": x}, meta),
        State({"p/x": x + 1}, meta),
        State({"p/y": x}, meta),
        State({"p/x": x.int()}, meta),
        State({"p/x": x.view(torch.int32)}, meta),
        State({"p/x": x.view(2, 3)}, meta),
        State({"p/x": x}, make_state([1]).meta),
        State({"p/x": x}, make_state([2]).meta),
    ]
    assert len({s.digest() for s in states}) == len(states)


def test_digest_of_a_view_is_that_of_its_values():
    x = torch.arange(6.0).view(2, 3)
    meta = make_state([]).meta
    assert State({"p/x": x.t()}, meta).digest() == State({"p/x": x.t().contiguous()}, meta).digest()


def test_with_documents_leaves_the_original_alone():
    state = make_state([1, 2])
    before = state.digest()
    other = state.with_documents((), {})
    assert (other.tensors, other.meta.documents) == ({}, ())
    assert other.meta.strategy == state.meta.strategy
    assert state.digest() == before


def test_what_is_derived_from_a_state_is_made_once_and_goes_with_it():
    calls = []

    @once_per_state
    def names(state: State) -> frozenset[str]:
        calls.append(id(state))
        return frozenset(state.tensors)

    one, same = make_state([1]), make_state([1])
    assert names(one) is names(one) and names(one) == names(same)
    assert calls == [id(one), id(same)], "by identity"
    gone = weakref.ref(names(one))
    del one
    gc.collect()
    assert gone() is None
