"""`train`: what is trained once per base model."""

from __future__ import annotations

from continual_learning.cli import options, train_hypernetwork, train_reader, train_start

app = options.group("Train what is needed once for a base model.")
app.command("start")(train_start.start)
app.command("hypernetwork")(train_hypernetwork.hypernetwork)
app.command("reader")(train_reader.reader)
