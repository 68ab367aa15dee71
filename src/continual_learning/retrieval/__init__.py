"""Finding texts by what they share with a question.

index.py      the protocol: add, remove, search
bm25.py       Okapi BM25, incremental
terms.py      the words that texts are compared by
relevance.py  whether what was found is relevant at all
following.py  an index that keeps up with a memory
"""

from continual_learning.retrieval.bm25 import BM25Index
from continual_learning.retrieval.following import FollowingIndex
from continual_learning.retrieval.index import Hit, Index, Key
from continual_learning.retrieval.relevance import Relevance
from continual_learning.retrieval.terms import terms

__all__ = ["BM25Index", "FollowingIndex", "Hit", "Index", "Key", "Relevance", "terms"]
