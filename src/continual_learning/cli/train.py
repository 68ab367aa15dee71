"""`train`: what is trained once per base model."""

from __future__ import annotations

from continual_learning.cli import options, train_hypernetwork

app = options.group("Train what is needed once for a base model.")
app.command("hypernetwork")(train_hypernetwork.hypernetwork)
