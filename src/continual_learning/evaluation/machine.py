"""What a measurement was made on, and how much memory it took."""

from __future__ import annotations

import math
import os
import platform
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch

from continual_learning import __version__
from continual_learning.model.base_model import BaseModel
from continual_learning.model.machine import cpu_name, matmul_gflops

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
