"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "continual_learning"
MODULES = sorted(PACKAGE.rglob("*.py"))

# families.py knows the architectures; network/ holds those of the embedded models; the gguf files know how GGUF names
# them; embedded.py has names of models, llama_cpp.py that of a program.
NAMES_ARCHITECTURES = {"families.py", "network", "llama_cpp.py", "embedded.py"}
NAMES_ARCHITECTURES |= {"gguf_config.py", "gguf_files.py", "gguf_reading.py"}
EMBEDDED_NAME = "gemma3-270m"  # the name of a model is data, as one of the hub is
ARCHITECTURE = re.compile(r"(?<!o)llama(?![._-]?cpp)|qwen|gpt_?2|gpt_?neo|neox|gemma|mistral|phi_?3", re.IGNORECASE)
HUB_NAME = re.compile(r"[\w.-]+[/:][\w.-]+")  # also NAME:TAG, as model servers have it

UNSAFE_CALLS = {"torch.load", "torch.save", "numpy.load", "np.load"}  # pickle, eval and exec: ruff S


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def docstrings(module: ast.Module) -> set[int]:
    """Identities of the constants that document something: a string that stands alone as a statement."""
    return {id(n.value) for n in ast.walk(module) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def unsafe(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS and not weights_only(node):
            yield f"line {node.lineno}: {ast.unparse(node.func)}"


def weights_only(call: ast.Call) -> bool:
    """Whether it is a ``torch.load`` that runs nothing, for the checkpoints that others publish."""
    only = {k.arg: ast.unparse(k.value) for k in call.keywords}.get("weights_only") == "True"
    return only and ast.unparse(call.func) == "torch.load"


def architectures(module: ast.Module) -> Iterator[str]:
    documentation = docstrings(module)
    for node in ast.walk(module):
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            # the name of a model on the hub is data, not knowledge of its structure
            text = HUB_NAME.sub("", node.value).replace(EMBEDDED_NAME, "")
        elif isinstance(node, ast.Name):
            text = node.id
        elif isinstance(node, ast.Attribute):
            text = node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.alias):
            text = node.name
        if found := ARCHITECTURE.search(text):
            yield f"line {node.lineno}: {found[0]}"  # type: ignore[attr-defined]


def test_no_module_reads_files_that_run_code_or_knows_an_architecture() -> None:
    found = []
    for path in MODULES:
        module = tree(path)
        named = () if {path.name, path.parent.name} & NAMES_ARCHITECTURES else architectures(module)
        found += [f"{path.relative_to(PACKAGE)} {where}" for where in (*unsafe(module), *named)]
    assert not found, "use safetensors and JSON; only families.py, the networks and the gguf files name architectures"


def test_the_rules_catch_what_they_forbid() -> None:
    bad = "import torch\ntorch.load('x')\nif model_type == 'qwen2': pass\nm = GPT2Block"
    assert len(list(unsafe(ast.parse(bad)))) == 1
    assert not list(unsafe(ast.parse("torch.load('x', weights_only=True)")))
    assert len(list(unsafe(ast.parse("torch.load('x', weights_only=False)")))) == 1
    assert len(list(architectures(ast.parse(bad)))) == 2
    good = '"""As in Llama."""\nname = "Qwen/Qwen2.5-1.5B"\nimport ollama, llama_cpp'
    assert not list(architectures(ast.parse(good)))


def test_no_machine_paths() -> None:
    # Split, so that this file does not hold what it looks for.
    path = re.compile(r"(?<![\w.])/" + r"(work|root|tmp|home/\w+)/")
    files = [*MODULES, *ROOT.glob("*.*"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").iterdir()]
    files += [*(ROOT / "docs").rglob("*.md"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    found = [
        f"{f.relative_to(ROOT)}: {m[0]}"
        for f in files
        if f.is_file()
        for m in path.finditer(f.read_text(errors="replace"))
    ]
    assert not found


def distribution_name(requirement: str) -> str:
    return re.split(r"[<>=\[; ]", requirement)[0].lower().replace("_", "-")


def test_constraints_pin_every_dependency_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {distribution_name(line): line for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins.values()), "a pin is name==version, no local tag"
    assert pins["torch"] == "torch==2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert not {distribution_name(line) for line in wanted} - set(pins)


def third_party_imports(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"continual_learning"}


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines]
    declared = {distribution_name(line) for line in project["dependencies"] + extras}
    homes = {"llama_cpp": ["llama-cpp-python"], **packages_distributions()}  # of those that may not be installed
    for path in MODULES:
        for name in third_party_imports(tree(path)):
            distributions = {distribution_name(d) for d in homes.get(name, [name])}
            assert distributions & declared, f"{path.name} imports {name}, which pyproject.toml does not declare"
