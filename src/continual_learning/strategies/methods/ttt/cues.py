"""Cues: the token ids after which the weights of a passage write one of its parts.

Learning ties each part to a cue, the document's title and the part's number, as a differentiable search index ties
documents to identifiers (Tay et al. 2022, arXiv 2202.06991); here the model is given the identifier and writes the
text.
"""

from __future__ import annotations

from continual_learning.model.base_model import BaseModel

# A common word in each cue: numbers alone are so alike to a model that telling the parts apart takes twice the steps.
_MARKS = (
    "apple river king blue seven music stone night doctor horse paper winter gold train garden fire "
    "school ocean bread chair moon war letter knife cotton tiger sugar glass bridge summer ship flag"
).split()


def cue_ids(base: BaseModel, title: str, number: int) -> list[int]:
    """Token ids after which the model recites part ``number`` (from 0) of a passage."""
    mark = _MARKS[number % len(_MARKS)]
    return base.encode(f"{title} {number + 1} {mark}:".lstrip(), add_special_tokens=True)
