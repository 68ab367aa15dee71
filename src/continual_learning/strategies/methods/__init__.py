"""The ways of learning that this project is about: one folder or file each."""
