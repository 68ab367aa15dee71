"""What reading may cost: the section ``documents`` of the settings."""

from __future__ import annotations

import pydantic
from pydantic import Field


class Limits(pydantic.BaseModel):
    """Limits on files and pages."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )

    max_bytes: int = Field(10_000_000, ge=1)
    """Largest file or page, in bytes; its compressed contents may unpack to ten times as much."""
    timeout: float = Field(30.0, gt=0, le=3600)
    """Timeout for one page in seconds, redirects included."""
    max_redirects: int = Field(5, ge=0, le=50)
    """Maximum redirects to follow per page."""
    max_pages: int = Field(100, ge=1)
    """Maximum pages to read from one sitemap or one list of sources."""
    pause: float = Field(0.5, ge=0, le=60)
    """Pause between two pages of a sitemap or a list, in seconds."""
    allow_private: bool = False
    """Whether pages may come from private addresses, such as 127.0.0.1 or 192.168.0.1."""

    @property
    def max_unpacked(self) -> int:
        """Bytes that the parts of a packed file (.docx, .epub) may have together."""
        return 10 * self.max_bytes
