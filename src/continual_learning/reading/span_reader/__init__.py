"""Extractive reading: which words of a text answer a question, by the base's hidden states and a small trained network.

A small model writes poor answers from a text in its prompt, yet its hidden states say much about where the answer
is. So the base reads the text and then each question, and a network of about half a million weights, trained once
per base on other articles (`continual-learning train reader`), points at spans of the text: extractive question
answering as in Rajpurkar et al. 2016 (arXiv 1606.05250), on frozen contextual features as in ELMo (Peters et al. 2018,
arXiv 1802.05365, section 5). For ttt the text is what the learned weights recite, as in recitation-augmented
answering (Sun et al. 2023, arXiv 2210.01296).

    features.py  what rules say about each token of the text and a question
    network.py   the network: states and features in, a score for every span out
    states.py    what the base's blocks read
    reader.py    texts and questions in, spans out; files of readers
"""

from continual_learning.reading.span_reader.reader import (
    SpanReader,
    load_reader,
    packaged_reader,
    save_reader,
)

__all__ = ["SpanReader", "load_reader", "packaged_reader", "save_reader"]
