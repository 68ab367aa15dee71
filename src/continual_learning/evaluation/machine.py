"""What a measurement was made on, and how much memory it took."""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from continual_learning import __version__
from continual_learning.model.base_model import BaseModel

_SAMPLE_SECONDS = 0.02


def machine_facts(base: BaseModel) -> dict[str, Any]:
    """Processor, memory, versions and the fp32 matmul speed: JSON values."""
    import transformers

    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else str(base.device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "package": __version__,
        "matmul_gflops": round(matmul_gflops(base.device), 1),
    }


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


class PeakMemory:
    """The most memory this process took while the ``with`` block ran.

    On a CPU its resident set, sampled fifty times a second, the loaded model included; on a CUDA device what PyTorch
    allocated there.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._done = threading.Event()
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._done.wait(_SAMPLE_SECONDS):
                break


def count_gflop(work: Callable[[], object]) -> float:
    """Floating-point operations of ``work`` in GFLOP, as PyTorch counts them: a multiply-add is two.

    Products with repacked weights (`cpu_linear`) and attention on a CPU are counted too, which PyTorch's own counter
    misses. Counting takes time itself: never time what is being counted.
    """
    from torch.utils import flop_counter

    # These functions receive shapes, not tensors.
    def product(x: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
        return 2 * math.prod(x) * out_shape[-1]

    def attention(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
        return int(flop_counter.sdpa_flop_count(query, key, value))

    def attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
        return int(flop_counter.sdpa_backward_flop_count(gradient, query, key, value))

    ops = torch.ops
    unknown = {
        ops.mkldnn._linear_pointwise: product,
        ops.quantized.linear_dynamic: product,
        ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
        ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    with flop_counter.FlopCounterMode(display=False, custom_mapping=unknown) as counter:
        work()
    return counter.get_total_flops() / 1e9
