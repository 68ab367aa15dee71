"""From a text and a question to an answer: in the prompt, or by a reader."""
