"""What the long benchmarks share: parts that are stored as soon as they are measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Parts:
    """The measured parts of a benchmark, in a JSON file: an interrupted run resumes where it stopped."""

    def __init__(self, file: Path, setting: dict[str, Any]):
        """``setting``: what all figures of a file have in common. Exits if the file has another."""
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"setting": setting}
        if kept["setting"] != setting:
            names = sorted(kept["setting"].keys() | setting.keys())
            other = [n for n in names if kept["setting"].get(n) != setting.get(n)]
            raise SystemExit(f"{file}: measured with another {', '.join(other)}; move it away, or name another --out")
        self._file, self._setting = file, setting
        self.measured: dict[str, Any] = kept.get("parts", {})

    def measure(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Measure a part and store it, with the seconds that it took, unless it is stored already."""
        if name in self.measured:
            print(f"-- {name}: measured already", flush=True)
            return
        print(f"-- {name} ({time.strftime('%H:%M:%S')})", flush=True)
        started = time.perf_counter()
        found = work()
        self.measured[name] = {**found, "benchmark_s": round(time.perf_counter() - started, 1)}
        print(f"   {json.dumps(self.measured[name])[:600]}", flush=True)
        text = json.dumps({"setting": self._setting, "parts": self.measured}, indent=1, ensure_ascii=False)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".part")
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self._file)
