"""What users meet: the learner, feedback, a chat that learns."""
