"""Where this package keeps its files. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "CONTINUAL_LEARNING_HOME"
ACCEPT_LICENCE_VARIABLE = "CONTINUAL_LEARNING_ACCEPT_LICENCE"
"""Names of models, with commas, whose terms of use the user accepts."""


def data_home() -> Path:
    """The data folder: `CONTINUAL_LEARNING_HOME`, else the platform's user data folder. Not created."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("continual-learning", appauthor=False)


def models_home() -> Path:
    """Folder of model files that `model pull` fetched or that were joined. Not created."""
    return data_home() / "models"


def prepared_home() -> Path:
    """Folder of what `model prepare` makes, one subfolder for each base. Not created."""
    return data_home() / "prepared"


def model_cache_home() -> Path:
    """Folder of dequantised models, one subfolder each. Not created; may be deleted at any time."""
    return models_home() / "cache"
