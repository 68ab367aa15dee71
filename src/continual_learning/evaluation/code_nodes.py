"""A module's definitions, each as text that says what it does but not where it is."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Place = tuple[str, str]
"""A module and a name in it."""
ALL = "*"
"""Everything in a module."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_COMPOUND = (ast.If, ast.Try, ast.With, ast.For, ast.While)


@dataclass
class Definition:
    """One definition: its code, and what the code refers to."""

    dump: str = ""
    uses: set[Place] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """Names of attributes, and strings that may be one (`getattr`)."""
    strings: set[str] = field(default_factory=set)
    bases: tuple[str, ...] = ()
    methods: list[tuple[str, set[str], Definition]] = field(default_factory=list)
    """The methods of a class: name, decorators and code of each."""


@dataclass
class Module:
    """What a module defines, by name."""

    imports: dict[str, Place]
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    effects: list[Definition] = field(default_factory=list)
    """Statements that run when it is imported and define nothing."""


def parse_module(path: Path, name: str, is_module: Callable[[str], bool]) -> Module:
    """Parse one file. ``is_module`` distinguishes a module of the packages from a library's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports: dict[str, Place] = {}
    for statement in _nested(tree.body):
        imports.update(_imported(statement, package))
    module = Module(imports)
    top = set(imports) | {bound for statement in tree.body for bound in _bound(statement)}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _not_run(statement) or _is_text(statement):
            continue
        make = functools.partial(_definition, imports=imports, top=top, name=name, package=package, is_module=is_module)
        definition = _class(statement, make) if isinstance(statement, ast.ClassDef) else make(statement)
        bound = _bound(statement)
        for each in bound:
            module.definitions.setdefault(each, []).append(definition)
        if not bound:
            module.effects.append(definition)
    return module


def _class(node: ast.ClassDef, make: Callable[[ast.stmt], Definition]) -> Definition:
    """A class without its methods, and the methods."""
    methods = [statement for statement in node.body if isinstance(statement, _FUNCTIONS)]
    node.body = [statement for statement in node.body if not isinstance(statement, _FUNCTIONS)]
    bases = tuple(_leaf(base) for base in node.bases)
    parts = []
    for method in methods:
        decorators = {_leaf(decorator) for decorator in method.decorator_list}
        code = make(method)
        code.dump = f"{node.name}.{code.dump}"
        parts.append((method.name, decorators, code))
    definition = make(node)
    definition.bases, definition.methods = bases, parts
    return definition


def _definition(statement: ast.stmt, **module: object) -> Definition:
    code = _Canonical(**module)  # type: ignore[arg-type]
    node = code.visit(statement)
    code.found.dump = ast.dump(node) if node is not None else ""
    return code.found


class _Canonical(ast.NodeTransformer):
    """Rewrites code so that imported names read as what they stand for, and collects what it refers to."""

    def __init__(
        self, imports: dict[str, Place], top: set[str], name: str, package: str, is_module: Callable[[str], bool]
    ):
        self._imports, self._top, self._name, self._package = imports, top, name, package
        self._is_module = is_module
        self._scopes: list[tuple[set[str], dict[str, Place]]] = []
        self.found = Definition()

    # What a name refers to
    def _place(self, name: str) -> Place | None:
        """What a name refers to if it is not local: ``(module, name)``, ``(module, ALL)`` for a module itself."""
        for local, imported in reversed(self._scopes):
            if name in imported:
                return self._as_module(imported[name])
            if name in local:
                return None
        if name in self._imports:
            return self._as_module(self._imports[name])
        return (self._name, name) if name in self._top else None

    def _as_module(self, place: Place) -> Place:
        module, name = place
        inner = f"{module}.{name}"
        return (inner, ALL) if name != ALL and self._is_module(inner) else place

    def _named(self, place: Place, node: ast.expr) -> ast.expr:
        """The name to write into the code: without the module for our own, with it for a library's."""
        module, name = place
        self.found.uses.add(place)
        ours = self._is_module(module)
        text = ("<module>" if ours else module) if name == ALL else (name if ours else f"{module}.{name}")
        return ast.copy_location(ast.Name(text, ast.Load()), node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        place = self._place(node.id) if isinstance(node.ctx, ast.Load) else None
        return node if place is None else self._named(place, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.found.names.add(node.attr)
        place = self._module_of(node.value)
        if place is not None and self._is_module(place):
            whole = self._as_module((place, node.attr))
            return self._named(whole, node)
        self.generic_visit(node)
        return node

    def _module_of(self, node: ast.expr) -> str | None:
        """The module that an expression such as ``package.module`` refers to."""
        if isinstance(node, ast.Name):
            place = self._place(node.id)
            return place[0] if place and place[1] == ALL else None
        if isinstance(node, ast.Attribute):
            outer = self._module_of(node.value)
            inner = f"{outer}.{node.attr}"
            return inner if outer is not None and self._is_module(inner) else None
        return None

    # What does not affect results
    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        if _is_text(node):
            return None
        self.generic_visit(node)
        return node

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.stmt | None:
        if _not_run(node):
            return None
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        self.generic_visit(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                inner.value = ""
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if node.annotation is not None:
            self.visit(node.annotation)  # its class is reached
            node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        self.generic_visit(node)
        if not self._scopes:  # fields of dataclasses and settings
            return node
        return None if node.value is None else ast.Assign([node.target], node.value)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):
            self.found.strings.add(node.value)
            if node.value.isidentifier():
                self.found.names.add(node.value)
        return node

    # Scopes
    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
        node.decorator_list = [self.visit(decorator) for decorator in node.decorator_list]
        if node.returns is not None:
            self.visit(node.returns)
            node.returns = None
        imported: dict[str, Place] = {}
        for statement in _nested(node.body):
            imported.update(_imported(statement, self._package))
        local = _arguments(node.args) | {name for statement in node.body for name in _stored(statement)}
        node.args = self.visit(node.args)
        self._scopes.append((local, imported))
        node.body = [each for each in (self.visit(statement) for statement in node.body) if each is not None]
        self._scopes.pop()
        return node

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        node.args = self.visit(node.args)
        self._scopes.append((_arguments(node.args), {}))
        node.body = self.visit(node.body)
        self._scopes.pop()
        return node

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> ast.expr:
        local = {name for generator in node.generators for name in _stored(generator.target)}
        first = self.visit(node.generators[0].iter)  # in the enclosing scope
        self._scopes.append((local, {}))
        node.generators[0].iter = ast.Constant(None)
        self.generic_visit(node)
        self._scopes.pop()
        node.generators[0].iter = first
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension


def _imported(node: ast.stmt, package: str) -> dict[str, Place]:
    """Names that an import binds."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                alias.name if alias.asname else alias.name.partition(".")[0],
                ALL,
            )
            for alias in node.names
        }
    if not isinstance(node, ast.ImportFrom) or node.module == "__future__":
        return {}
    module = node.module or ""
    if node.level:
        parts = package.split(".")
        module = ".".join([*parts[: len(parts) - node.level + 1], *([module] if module else [])])
    return {alias.asname or alias.name: (module, alias.name) for alias in node.names}


def _nested(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, and those within `if`, `try` and the like, but not within functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, _COMPOUND):
            for name in ("body", "orelse", "finalbody"):
                yield from _nested(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", ()):
                yield from _nested(handler.body)


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a top-level statement defines."""
    if isinstance(statement, ast.Import | ast.ImportFrom) or _not_run(statement):
        return set()
    return set(_stored(statement))


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds in its own scope."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield node.name
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _stored(child)


def _arguments(node: ast.arguments) -> set[str]:
    every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
    return {arg.arg for arg in every if arg is not None}


def _leaf(node: ast.expr) -> str:
    """The last name of ``module.Base[T]`` or ``decorator(...)``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _not_run(node: ast.stmt) -> bool:
    """Whether a block is for type checkers, or for running the file as a script."""
    return isinstance(node, ast.If) and ("TYPE_CHECKING" in ast.dump(node.test) or "__main__" in ast.dump(node.test))
