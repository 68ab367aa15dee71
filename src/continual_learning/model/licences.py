"""Models that come under terms to be read first: whether the user has accepted them.

Consent is kept in the data folder, one entry a model. A script may give it with the variable
``CONTINUAL_LEARNING_ACCEPT_LICENCE=gemma3-270m`` (several names: with commas) or by calling `accept`.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from continual_learning.errors import ModelError
from continual_learning.io.files import make_folder, storage_errors, write_atomic
from continual_learning.io.paths import ACCEPT_LICENCE_VARIABLE, models_home
from continual_learning.model.embedded import EMBEDDED, kept_notices


def is_accepted(name: str) -> bool:
    """Whether this embedded model may be used: it asks for no consent, or has it."""
    terms = EMBEDDED[name].terms
    if terms is None:
        return True
    given = {part.strip() for part in os.environ.get(ACCEPT_LICENCE_VARIABLE, "").split(",")}
    return name in given or name in _read()


def accept(name: str) -> None:
    """Record, in the data folder, that the user has read and accepted the terms of an embedded model.

    Raises StorageError when it cannot be written.
    """
    terms = EMBEDDED[name].terms
    if terms is None:
        return
    entry = {
        "terms": terms.title,
        "address": terms.address,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with storage_errors("cannot record that terms were accepted"):
        make_folder(models_home())
        write_atomic(_file(), json.dumps({**_read(), name: entry}, indent=1).encode())


def notice(name: str) -> str | None:
    """One sentence on the terms that a model comes under, and where they are; None if it asks for no consent."""
    terms = EMBEDDED[name].terms
    if terms is None:
        return None
    kept = next((path for path in kept_notices(name) if path.suffix == ".html"), None)
    return f"{name} comes under the {terms.title}: {terms.address}" + (f" (a copy: {kept})" if kept else "")


def require_acceptance(name: str) -> None:
    """Raise ModelError, naming what to do, for a model whose terms were not accepted."""
    if not is_accepted(name):
        raise ModelError(
            f"{notice(name)}; read them, then accept them with `continual-learning model pull {name}` or "
            f"{ACCEPT_LICENCE_VARIABLE}={name}"
        )


def _file() -> Path:
    return models_home() / "accepted-licences.json"


def _read() -> dict[str, object]:
    try:
        found = json.loads(_file().read_bytes())
    except (OSError, ValueError):  # none yet, or damaged: it is asked for again
        return {}
    return found if isinstance(found, dict) else {}
