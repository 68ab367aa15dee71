"""Pure modules and functions on tensors: no files, no printing, no knowledge of strategies."""
