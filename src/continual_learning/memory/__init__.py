"""What is learned: a state, and a store in which every state is a version on disk."""
