"""A cold `ask`: a new process that imports, opens a memory and answers its first question."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from protocols import Bench, note

COMMAND = (sys.executable, "-m", "continual_learning.cli.main")
TEXT = "Tidewick is known for its bell. The ferry to Orsel leaves at nine."
QUESTION = "When does the ferry to Orsel leave?"


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure several starts in a separate data folder. The first, which fills caches, does not count."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "CONTINUAL_LEARNING_HOME": home}
        document = os.path.join(home, "ferry.txt")
        with open(document, "w", encoding="utf-8") as file:
            file.write(TEXT)
        model = ("--model", bench.base.name)
        learn = ("learn", document, "--strategy", experiment.strategy, "--memory", "cold", *model)
        _timed(learn, environment)
        runs = [
            _timed(("ask", QUESTION, "--memory", "cold"), environment) for _ in range(experiment.setting["runs"] + 1)
        ]
    note(str(runs))
    counted = runs[1:]
    median = {key: statistics.median(run[key] for run in counted) for key in counted[0]}
    return {"first": runs[0], "median": median, "runs": counted}, {}, None


def _timed(words: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, float]:
    """Seconds of one process: wall time and CPU time."""
    started = time.perf_counter()
    process = subprocess.Popen((*COMMAND, *words), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}: {said.strip()[-500:]}")
    return {"seconds": time.perf_counter() - started, "processor_seconds": usage.ru_utime + usage.ru_stime}


def table(results: Mapping[str, Any]) -> str:
    """Seconds to the first answer."""
    lines = ["| strategy | processor seconds | seconds |", "|---|---|---|"]
    for result in results.values():
        found = result["figures"]["median"]
        lines.append(f"| {result['label']} | {found['processor_seconds']:.1f} | {found['seconds']:.1f} |")
    return "\n".join(lines)
