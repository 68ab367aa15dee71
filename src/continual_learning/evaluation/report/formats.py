"""Numbers, times and sizes in human-readable form. A missing value is a dash."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

DASH = "–"
# Control characters are not allowed in HTML or SVG, and mean nothing to a reader.
_CONTROL = {code: None for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))}


def number(value: Any) -> float | None:
    """``value`` as a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def printable(text: str) -> str:
    """``text`` without control characters other than line ends and tabs, and without unpaired surrogates."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")


def plain(value: Any, text: Callable[[str], str] = printable) -> Any:
    """JSON values alone: NaN and infinity become None, tuples lists, and every string goes through ``text``."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, text) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def ratio(value: float) -> str:
    """``0.34``; a negative value gets a minus sign as wide as a digit."""
    return _signed(f"{value:.2f}")


def percent(value: float) -> str:
    """``99.2%``."""
    return _signed(f"{value:.1%}")


def change(value: float) -> str:
    """``+0.3%``; no change at this precision is ``+0.0%``."""
    text = f"{value:+.1%}"
    return "+0.0%" if text == "-0.0%" else _signed(text)


def seconds(value: float) -> str:
    """About three digits: ``0.79``, ``21.0``, ``1,240``; less than the last digit is ``<0.01``."""
    if 0 < value < 0.005:
        return "<0.01"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def megabytes(value: float) -> str:
    """Bytes in MB (10^6), without the unit: ``3.32``."""
    return seconds(value / 1e6)


def gigabytes(value: float) -> str:
    """Bytes in GB (10^9), without the unit: ``1.42``."""
    return seconds(value / 1e9)


def count(value: float) -> str:
    """``2,512``."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes with their unit: ``824 B``, ``3.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(value: float) -> str:
    """``8.4 s``, ``4 min 05 s``, ``1 h 12 min``."""
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def interval(pair: Any) -> str:
    """``[0.24, 0.45]``, or an empty string if there is none."""
    bounds = [number(bound) for bound in pair] if isinstance(pair, list | tuple) and len(pair) == 2 else [None]
    return "" if None in bounds else f"[{', '.join(ratio(bound) for bound in bounds if bound is not None)}]"


def cell(value: Any, text: Callable[[float], str]) -> str:
    """``text`` of the value, or a dash."""
    found = number(value)
    return DASH if found is None else text(found)


def _signed(text: str) -> str:
    if text.startswith("-") and not text.strip("-0.%"):
        return text[1:]
    return text.replace("-", "−")
