"""`train`: what is trained once per base model. Strategies add what they train."""

from __future__ import annotations

from continual_learning.cli import options, train_reader

app = options.group("Train what is needed once for a base model.")
app.command("reader")(train_reader.reader)
