"""Mails (.eml, RFC 5322 and MIME): who wrote what to whom and when, and the attachments by name."""

from __future__ import annotations

import email
import email.policy
from typing import Any

from continual_learning.documents.document import Parsed, Skipped, clean_text, one_line
from continual_learning.documents.extra import damage
from continual_learning.documents.html import decode_html, parse_chapter
from continual_learning.errors import DocumentError

_FIELDS = ("From", "To", "Cc", "Date", "Subject")
_FILES = ("text/calendar", "text/rtf", "text/csv")


def parse_mail(data: bytes) -> Parsed:
    """The head and the text of a mail, titled by its subject. Raises DocumentError, MissingExtraError."""
    with damage("mail (.eml)"):
        mail: Any = email.message_from_bytes(data.lstrip(), policy=email.policy.default)
        texts, left_out = [head(mail)], list[Skipped]()
        if not texts[0]:
            raise DocumentError("it is no mail; expected lines such as From: and Subject: above the text")
        _read(mail, texts, left_out)
        title = one_line(str(mail["Subject"] or ""))
    return Parsed(clean_text("\n\n".join(filter(None, texts))), clean_text(title), tuple(left_out))


def head(mail: Any) -> str:
    """Who wrote to whom, when and about what."""
    fields = [(name, one_line(str(mail[name] or ""))) for name in _FIELDS]
    return "\n\n".join(f"{name}: {value}" for name, value in fields if value)


def _read(part: Any, texts: list[str], left_out: list[Skipped]) -> None:
    """Add the texts of a part of a mail, and of mails in it, and name what is no text."""
    kind = part.get_content_type()
    if kind.startswith("multipart/") and not part.is_multipart():  # no boundary is given: the parts are one text
        texts.append(_text(part))
    elif kind == "multipart/alternative":  # the same text in several forms: the plainest that is not empty
        forms = list(part.iter_parts())
        plain = [
            form for form in forms if form.get_content_type() == "text/plain" and form.get_payload(decode=True).strip()
        ]
        for form in plain[:1] or forms[-1:]:
            _read(form, texts, left_out)
    elif kind == "message/rfc822":
        for mail in part.get_payload():
            texts.append(head(mail))
            _read(mail, texts, left_out)
    elif part.is_multipart():
        for inner in part.get_payload():
            _read(inner, texts, left_out)
    elif kind.startswith("text/") and part.get_content_disposition() != "attachment" and kind not in _FILES:
        texts.append(_text(part))
    else:
        name = one_line(str(part.get_filename() or kind))
        left_out.append(Skipped(f"attachment {name}", "attachments are not read; save it as a file of its own"))


def _text(part: Any) -> str:
    data = part.get_payload(decode=True) or b""
    charset = part.get_content_charset()
    if not data.strip():
        return ""
    return (
        parse_chapter(data, charset) if part.get_content_subtype() == "html" else decode_html(data, charset)
    ).strip()
