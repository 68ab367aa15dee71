"""The same measurement on several base models, of which one is in memory at a time, in one result.

Each strategy is compared with the base that it ran on: what was kept of the general questions, perplexities, and what
the base knew before are measured on every base by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from continual_learning.errors import ContinualLearningError, InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.loading import check_model
from continual_learning.types import Progress, ProgressCallback

Result = dict[str, Any]
Measure = Callable[[BaseModel, ProgressCallback | None], Result]


def on_each_base(
    models: Sequence[str],
    measure: Measure,
    progress: ProgressCallback | None = None,
    load: Callable[[str], BaseModel] = BaseModel.load,
) -> Result:
    """Measure on one base after another: ``measure(base, progress)`` is any function of `protocols`.

    All names are checked before the first base is loaded, and each base is let go before the next is loaded. A base on
    which nothing could be measured is left out, with a note. The result has ``models`` in place of ``model``, with what
    differs in the data set as that base reads it (its tokens), and every row has its ``model``. One name alone gives
    the result that ``measure`` does.

    Raises InputError for no name or one given twice, ModelNotFoundError, ModelError, and the first base's error if
    nothing could be measured on any.
    """
    if not models or len(set(models)) < len(models):
        raise InputError(f"models {', '.join(models) or 'none'}; expected at least one, each once")
    if len(models) == 1:
        return measure(load(models[0]), progress)
    for name in models:
        check_model(name)
    results: list[Result] = []
    notes: list[str] = []
    first_error: ContinualLearningError | None = None
    for number, name in enumerate(models):
        try:
            results.append({**measure(load(name), _part(progress, name, number, len(models))), "asked": name})
        except ContinualLearningError as error:
            # The frames in its traceback would keep the base in memory.
            first_error = first_error or error.with_traceback(None)
            notes.append(f"{name} was not run: {error}")
        gc.collect()
    if first_error is not None and not results:
        raise first_error
    return _together(results, notes)


def _part(progress: ProgressCallback | None, name: str, number: int, count: int) -> ProgressCallback | None:
    """Progress on one base as a part of the whole."""
    if progress is None:
        return None

    def show(step: Progress) -> None:
        message = f"{name}, {number + 1} of {count} models: {step.message}"
        progress(Progress(step.stage, (100 * number + 100 * step.done // max(1, step.total)) // count, 100, message))

    return show


def _together(results: Sequence[Result], notes: Sequence[str]) -> Result:
    """One result of several."""
    first = results[0]
    shared = {key: value for key, value in first["dataset"].items() if all(r["dataset"][key] == value for r in results)}
    return {
        **{key: value for key, value in first.items() if key not in ("model", "asked")},
        "seconds": sum(result["seconds"] for result in results),
        "models": [
            {
                **result["model"],
                "name": result["asked"],
                "dataset": {key: value for key, value in result["dataset"].items() if key not in shared},
            }
            for result in results
        ],
        "dataset": shared,
        "results": [{**row, "model": result["asked"]} for result in results for row in result["results"]],
        "notes": [*notes, *(f"{result['asked']}: {note}" for result in results for note in result["notes"])],
    }
