"""Reports as files: the suffix of the name decides the format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from continual_learning.errors import InputError
from continual_learning.evaluation.report.formats import plain
from continual_learning.evaluation.report.html import render_html
from continual_learning.evaluation.report.markdown import render_markdown
from continual_learning.evaluation.report.tables import render_csv
from continual_learning.io.files import output_file


def write_report(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write ``.html``, ``.md``, ``.csv`` (the results) or ``.json`` (everything), completely or not at all.

    Returns the path. Raises InputError for another suffix, and as `output_file`.
    """
    path = Path(path)
    renderer = RENDERERS.get(path.suffix.lower())
    if renderer is None:
        raise InputError(
            f"{path}: suffix {path.suffix!r} is not a kind of report; expected one of {', '.join(RENDERERS)}"
        )
    data = renderer(result).encode("utf-8", "replace")
    with output_file(path) as file:
        file.write(data)
    return path


def _render_json(result: Mapping[str, Any]) -> str:
    return json.dumps(plain(result, str), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


RENDERERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".html": render_html,
    ".md": render_markdown,
    ".csv": render_csv,
    ".json": _render_json,
}
