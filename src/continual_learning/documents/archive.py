"""Packed files (.docx and .epub are ZIP archives): opened only if their unpacked size is within the limits."""

from __future__ import annotations

import io
import zipfile

from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError

MAX_PARTS = 10_000


def open_archive(data: bytes, limits: Limits, what: str) -> zipfile.ZipFile:
    """Open an archive whose declared sizes are within the limits.

    zipfile unpacks no more of a part than its declared size, so that a false size gives an error and not a ZIP bomb.
    """
    if data.startswith(b"\xd0\xcf\x11\xe0"):  # an OLE container: an encrypted .docx, or an old .doc
        raise DocumentError(f"it is encrypted, or of an old format; expected {what} without a password; save it anew")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise DocumentError(f"it is damaged, or no {what} ({error}); save it anew") from None
    parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > MAX_PARTS:
        raise DocumentError(f"it is packed of {len(parts):,} parts; expected at most {MAX_PARTS:,}")
    if unpacked > limits.max_unpacked:
        found = f"it unpacks to {unpacked:,} bytes"
        raise DocumentError(f"{found}; expected at most {limits.max_unpacked:,}; split it into smaller files")
    if any(part.flag_bits & 1 for part in parts):
        raise DocumentError("it is encrypted; expected a file without a password; save it without one and try again")
    return archive
