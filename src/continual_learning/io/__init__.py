"""Files: where they live, atomic writes, one artifact format, a cache of tensors."""
