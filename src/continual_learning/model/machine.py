"""The machine that a model runs on: its processor and its speed."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import torch

from continual_learning.model.base_model import BaseModel


def machine_key(base: BaseModel) -> dict[str, Any]:
    """The facts of a machine that must agree for seconds to be comparable."""
    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), "device": str(base.device)}


def cpu_name() -> str:
    """The processor's name as reported by the system."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def matmul_gflops(device: torch.device, size: int = 1536, seconds: float = 0.5) -> float:
    """Speed of an fp32 product of two square matrices: the best of as many runs as fit into ``seconds``."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    best, started = 0.0, time.perf_counter()
    while not best or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - before) / 1e9)
    return best
