"""One base model: loaded, generating, decoding, patched."""
