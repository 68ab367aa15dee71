"""The base model: loading, generation, decoding and patching."""
