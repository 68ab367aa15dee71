"""The ways of learning: one file or folder each, named as on the command line."""
