"""Files: one format for tensors with facts about them."""
