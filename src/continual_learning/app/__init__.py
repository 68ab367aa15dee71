"""The user-facing objects: the learner, feedback, and a chat that learns."""
