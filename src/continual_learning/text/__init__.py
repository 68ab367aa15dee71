"""Words, sentences, chunks, scores: pure functions of text."""
