"""Documents with questions, to measure on."""
