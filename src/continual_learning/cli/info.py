"""`info`: what this installation works with."""

from __future__ import annotations

import platform
from typing import Any

from continual_learning import __version__
from continual_learning.cli import options
from continual_learning.cli.output import Output


def info(memory: options.Memory = None, as_json: options.Json = False) -> None:
    """Version, model, strategy, memory, paths and device. Does not load the model."""
    import torch

    from continual_learning.cli.session import memory_names, stored_names
    from continual_learning.io.paths import data_home
    from continual_learning.settings.schema import config_files, load_config, strategy_names

    out = Output(as_json)
    config = load_config({"memory": memory})
    settings = config.settings
    names = memory_names()
    stored = stored_names(settings.memory)
    strategy, model = stored or (settings.strategy, config.model_for(settings.strategy))
    facts: dict[str, Any] = {
        "version": __version__,
        "model": model,
        "strategy": strategy,
        "strategies": strategy_names(),
        "memory": settings.memory,
        "memory_exists": settings.memory in names,
        "memories": names,
        "data_home": str(data_home()),
        "config_files": [str(path) for path in config_files() if path.exists()],
        "device": device(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    out.result(facts)
    out.facts({name: ", ".join(v) or "none" if isinstance(v, list) else v for name, v in facts.items()})


def device() -> str:
    """The device that ``device: auto`` selects here, with its name."""
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
