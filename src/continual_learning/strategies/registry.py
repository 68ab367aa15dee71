"""The available strategies: this package's own and those of other installed packages. Imports none of them.

Our own are the files and folders of ``baselines/`` and ``methods/``. Another package declares its own as entry points
(the second group only if its strategy has commands or menu entries, see `continual_learning.strategies.commands`):

    [project.entry-points."continual_learning.strategies"]
    parrot = "my_package.parrot"             # a module with one Strategy, or module:Class
    [project.entry-points."continual_learning.commands"]
    parrot = "my_package.parrot_commands"    # a module with COMMANDS, GROUPS, MENU
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from continual_learning.errors import ConfigError

STRATEGIES_GROUP = "continual_learning.strategies"
COMMANDS_GROUP = "continual_learning.commands"
AUTO = "auto"
"""Takes the place of a strategy's name where a memory is made: `choosing` names the strategy."""
ROOMS = ("baselines", "methods")
"""Folders of ``strategies/`` in which each file's name is the name of a strategy."""

_FOLDER = Path(__file__).parent

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a strategy is defined."""

    name: str
    module: str
    attribute: str = ""
    """The class; if empty, the module's only strategy."""
    package: str = ""
    """The distribution that provides it; empty for our own."""
    commands: str = ""
    """A module with its commands; empty if it has none or, for our own, if they are in the file ``commands.py``."""


def places() -> dict[str, Place]:
    """Every strategy by name, sorted."""
    return dict(_places(tuple(sys.path)))


def strategy_names() -> list[str]:
    """Names of all strategies, sorted, without importing them."""
    return list(_places(tuple(sys.path)))


def load(place: Place) -> ModuleType:
    """Import the module of a strategy. Raises ConfigError if another package's module cannot be imported."""
    return _imported(place, place.module)


def command_modules() -> Iterator[tuple[Place, ModuleType]]:
    """The modules with commands of strategies, without importing the strategies themselves.

    A module of another package that cannot be imported is left out with a warning; all other commands keep working.
    """
    for place in places().values():
        if place.commands:
            try:
                yield place, _imported(place, place.commands)
            except ConfigError as error:
                _log.warning("%s", error)
        elif not place.package and (module := _own_commands(place)) is not None:
            yield place, module


def _imported(place: Place, module: str) -> ModuleType:
    if not place.package:
        return importlib.import_module(module)
    try:
        return importlib.import_module(module)
    except Exception as error:  # another package's code may raise anything
        raise broken(place, f"{type(error).__name__}: {error}") from error


def broken(place: Place, problem: str) -> ConfigError:
    """The error for a strategy of another package that cannot be used."""
    line = " ".join(problem.split())
    return ConfigError(
        f"strategy {place.name!r} of the package {place.package!r} cannot be used ({line}); "
        f"repair it, or remove it with: pip uninstall {place.package}"
    )


def _own_commands(place: Place) -> ModuleType | None:
    """``commands.py`` in a strategy's folder, loaded by its path: importing the folder would import torch."""
    name = f"{place.module}.commands"
    if name in sys.modules:
        return sys.modules[name]
    folder = _FOLDER.joinpath(*place.module.removeprefix(f"{__package__}.").split("."))
    file = next(
        (f for f in (folder / "commands.py", folder.with_name(f"_{place.name}_commands.py")) if f.is_file()), None
    )
    if file is None:
        return None
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=4)
def _places(path: tuple[str, ...]) -> dict[str, Place]:
    """``path`` is `sys.path`: another one may hold other packages."""
    found = {place.name: place for place in _own()}
    for place in _installed(path):
        other = found.get(place.name)
        if other is not None:
            whose = f"of the package {other.package!r}" if other.package else "of this program"
            _log.warning(
                "strategy %r of the package %r is left out: the name is that of a strategy %s; "
                "expected another name for its entry point",
                place.name, place.package, whose,
            )  # fmt: skip
        elif not place.name.isidentifier() or place.name.startswith("_") or place.name == AUTO:
            _log.warning(
                "strategy %r of the package %r is left out: expected a name of letters, digits and underscores "
                "other than auto for its entry point, such as my_strategy",
                place.name, place.package,
            )  # fmt: skip
        else:
            found[place.name] = place
    return dict(sorted(found.items()))


def _own() -> Iterator[Place]:
    for room in ROOMS:
        for module in pkgutil.iter_modules([str(_FOLDER / room)]):
            if not module.name.startswith("_"):
                yield Place(module.name, f"{__package__}.{room}.{module.name}")


def _installed(path: tuple[str, ...]) -> Iterator[Place]:
    from importlib.metadata import distributions  # slow to import, and every command reads this file

    seen: set[str] = set()
    for distribution in distributions(path=list(path)):
        package = distribution.name
        if not package or package in seen:  # the first on the path counts, as for imports
            continue
        seen.add(package)
        if "continual_learning" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        points = distribution.entry_points
        commands = {point.name: point.value for point in points.select(group=COMMANDS_GROUP)}
        for point in points.select(group=STRATEGIES_GROUP):
            yield Place(point.name, point.module, point.attr or "", package, commands.get(point.name, ""))
