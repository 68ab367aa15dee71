"""`train`: what is trained once per base model."""

from __future__ import annotations

from continual_learning.cli import options, train_start

app = options.group("Train what a base model needs once: starting weights.")
app.command("start")(train_start.start)
