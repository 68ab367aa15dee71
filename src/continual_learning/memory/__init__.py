"""What was learned: a state, and a store that keeps every state as a version on disk."""
