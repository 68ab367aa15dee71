"""Finding texts by what they share with a question, and where in them the answer is.

index.py      the protocol: add, remove, search
bm25.py       Okapi BM25, incremental
tfidf.py      TF-IDF with cosine similarity, incremental
dense.py      vectors: the base's own hidden states, or a sentence encoder
backends.py   the indexes by name
relevance.py  whether a retrieved text is relevant at all
following.py  an index that keeps up with a memory
spans.py      where in a text an answer is likely to begin
chunk_store.py  chunks of documents, and which of them are relevant
passages.py   chunks, their sentences, and which of them are relevant
quoting.py    which token comes next if the answer is a quotation
datastore.py  hidden states at all positions of the documents, and their nearest neighbours
"""

from continual_learning.retrieval.bm25 import BM25Index
from continual_learning.retrieval.following import FollowingIndex
from continual_learning.retrieval.index import Hit, Index, Key
from continual_learning.retrieval.relevance import Relevance
from continual_learning.retrieval.tfidf import TfidfIndex
from continual_learning.text.words import terms

__all__ = ["BM25Index", "FollowingIndex", "Hit", "Index", "Key", "Relevance", "TfidfIndex", "terms"]
