"""A digest of the code that a strategy runs, which decides whether a stored measurement of it is stale.

Each top-level definition of a package, and each method of a class, is a node; an edge leads from it to every definition
that it names, through imports, re-exports and ``module.attribute``. The digest is SHA-256 over all nodes reached
from the strategy's class and from what measures it. A method counts once something that was reached uses its name.

Not part of it: docstrings, comments, layout, type annotations of functions, the wording of errors, imports, and the
files that definitions are in. So code may be moved and documented better without new measurements. Data files of the
package count if the code names them.

Nor is `load_pretrained` and what it alone runs: what it gives is known by itself, as `contender.base_key`, which every
stored result has in its key, or as the fingerprint in a row of the benchmarks.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path

from continual_learning.evaluation.code_nodes import ALL, Definition, Module, Place, parse_module

_RUNS_ANYWAY = {"property", "cached_property", "staticmethod", "classmethod", "abstractmethod", "override", "setter"}
_MEASURED = ("_learn", "_measure")  # methods of `SequenceRunner`; the rest of it stores results and changes none
_KNOWN_BY_RESULT = {("continual_learning.model.loading", "load_pretrained")}
_PLAIN_BASES = {"object", "ABC", "Generic", "Protocol", "Enum", "StrEnum", "NamedTuple", "TypedDict"}


@functools.cache
def code_digest(*roots: type) -> str:
    """SHA-256 of the code that these classes and functions run. Code in no file gets a new one per process."""
    folders: dict[str, Path] = {}
    for root in roots:
        module = sys.modules[root.__module__]
        top = sys.modules[root.__module__.partition(".")[0]]
        file = getattr(top, "__file__", None) or getattr(module, "__file__", None)
        if file is None or not Path(file).is_file():
            return uuid.uuid4().hex
        folders[top.__name__] = Path(file).parent if hasattr(top, "__path__") else Path(file)
    return Code(folders).digest((root.__module__, root.__qualname__.partition(".")[0]) for root in roots)


class Code:
    """The source of some packages, each module parsed when it is first reached.

    Args:
        packages: The folder of each package, or the file of a single module, by import name.
    """

    def __init__(self, packages: dict[str, Path]):
        self._packages = packages
        self._modules: dict[str, Module | None] = {}

    def digest(self, roots: Iterable[Place]) -> str:
        """SHA-256 of everything reachable from the definitions ``(module, name)``."""
        dumps, strings = self.closure(roots)
        h = hashlib.sha256()
        for dump in sorted(dumps):
            h.update(dump.encode() + b"\0")
        for content in sorted(self._data(strings)):
            h.update(content)
        return h.hexdigest()

    def closure(self, roots: Iterable[Place]) -> tuple[dict[str, Place], set[str]]:
        """Everything reachable: the places of definitions by their code, and the strings in them."""
        dumps: dict[str, Place] = {}
        strings: set[str] = set()
        names = set(_MEASURED)
        seen: set[Place] = set()
        waiting: dict[str, list[tuple[Place, Definition]]] = {}  # methods that no reached code has named yet
        places = list(roots)

        def reach(place: Place, definition: Definition) -> None:
            dumps[definition.dump] = place
            strings.update(definition.strings)
            places.extend(definition.uses)
            for name in definition.names - names:
                names.add(name)
                for place_, method in waiting.pop(name, []):
                    reach(place_, method)

        while places:
            place = self._home(*places.pop())
            if place is None or place in seen or place in _KNOWN_BY_RESULT:
                continue
            seen.add(place)
            module_name, name = place
            module = self._module(module_name)
            assert module is not None
            if name == ALL:
                places += [(module_name, other) for other in module.definitions]
                continue
            for definition in [*module.definitions[name], *module.effects]:
                reach(place, definition)
                always = bool(definition.methods) and self._called_from_outside(module_name, definition)
                for method, decorators, code in definition.methods:
                    dunder = method.startswith("__") and method.endswith("__")
                    if always or dunder or method in names or not decorators <= _RUNS_ANYWAY:
                        reach(place, code)
                    else:
                        waiting.setdefault(method, []).append((place, code))
        return dumps, strings

    def _called_from_outside(self, module: str, definition: Definition) -> bool:
        """Whether a library may call the methods of a class: it has a base class from outside these packages."""
        for base in definition.bases:
            if base in _PLAIN_BASES:
                continue
            home = self._home(module, base)
            inner = home and self._module(home[0])
            if not home or not inner:
                return True
            if any(self._called_from_outside(home[0], parent) for parent in inner.definitions.get(home[1], ())):
                return True
        return False

    def _home(self, module_name: str, name: str) -> Place | None:
        """Where a name in a module is defined; None if outside these packages."""
        for _ in range(20):  # re-exports of re-exports
            module = self._module(module_name)
            if module is None:
                return None
            if name == ALL or name in module.definitions:
                return module_name, name
            if name in module.imports:
                module_name, name = module.imports[name]
                continue
            if self._module(f"{module_name}.{name}") is not None:
                return f"{module_name}.{name}", ALL
            return None
        return None

    def _module(self, name: str) -> Module | None:
        if name not in self._modules:
            path = self._path(name)
            self._modules[name] = None if path is None else parse_module(path, name, self.is_module)
        return self._modules[name]

    def is_module(self, name: str) -> bool:
        """Whether this is a module of these packages."""
        return self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        top, _, rest = name.partition(".")
        root = self._packages.get(top)
        if root is None or root.is_file():
            return root if not rest else None
        path = root.joinpath(*rest.split(".")) if rest else root
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
        return None

    def _data(self, strings: set[str]) -> list[bytes]:
        """Hashes of the data files that are named: by their own name, or by the folder in ``data`` they are in."""
        words = {part for string in strings for part in string.split("/")}
        hashes = []
        for root in self._packages.values():
            for path in sorted((root / "data").rglob("*")) if root.is_dir() else ():
                named = path.name in words or path.relative_to(root / "data").parts[0] in words
                if path.is_file() and path.suffix != ".md" and named:
                    hashes.append(hashlib.sha256(path.read_bytes()).digest())
        return hashes
