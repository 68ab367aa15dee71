"""Packed files (.docx, .odt and .epub are ZIP archives of XML): opened only if they unpack to what the limits allow."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from continual_learning.documents.extra import library
from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError

MAX_PARTS = 10_000


def open_archive(data: bytes, limits: Limits, what: str) -> zipfile.ZipFile:
    """Open an archive whose declared sizes are within the limits.

    zipfile unpacks no more of a part than its declared size, so that a false size gives an error and not a ZIP bomb.
    """
    if data.startswith(b"\xd0\xcf\x11\xe0"):  # an OLE container: an encrypted .docx, or an old .doc
        raise DocumentError(f"it is encrypted, or of an old format; expected {what} without a password; save it again")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise DocumentError(f"it is damaged, or no {what} ({error}); save it again") from None
    parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > MAX_PARTS:
        raise DocumentError(f"it is packed of {len(parts):,} parts; expected at most {MAX_PARTS:,}")
    if unpacked > limits.max_unpacked:
        found = f"it unpacks to {unpacked:,} bytes"
        raise DocumentError(f"{found}; expected at most {limits.max_unpacked:,}; split it into smaller files")
    if any(part.flag_bits & 1 for part in parts):
        raise DocumentError("it is encrypted; expected a file without a password; save it without one and try again")
    _with_slashes(archive)
    return archive


def _with_slashes(archive: zipfile.ZipFile) -> None:
    """Name the parts with ``/``, as ZIP says (APPNOTE 4.4.17), where a program wrote ``\\``, as some do on Windows."""
    for part in archive.infolist():
        if "\\" in part.filename:
            part.filename = part.filename.replace("\\", "/")
            archive.NameToInfo.setdefault(part.filename, part)


def xml_part(archive: zipfile.ZipFile, name: str, what: str, recover: bool = False) -> Any:
    """A part as an XML tree; entities are not resolved and nothing outside is fetched. Raises DocumentError.

    ``recover`` reads past errors, and so may lose text.
    """
    etree = library("lxml.etree", what)
    try:
        data = archive.read(name)
    except KeyError:
        raise DocumentError(f"it is damaged, or no {what}: it has no {name or 'main part'}; save it again") from None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=recover)
    root = etree.fromstring(data, parser)
    if root is None:
        raise DocumentError(f"it is damaged: {name} is no XML; save it again")
    return root


def local_name(element: Any) -> str:
    """The name of an element without its namespace; empty for comments and processing instructions."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Any, name: str) -> str:
    """An attribute by its name without namespace; empty if there is none."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def named(element: Any, *names: str) -> Iterator[Any]:
    """All elements of these names at or below an element, in order."""
    return (found for found in element.iter() if local_name(found) in names)


def child(element: Any, name: str) -> Any:
    """The first child of this name; None if there is none, or no element."""
    if element is None:
        return None
    return next((found for found in element if local_name(found) == name), None)
