"""What of the code a kept measurement depends on."""

from __future__ import annotations

import ast
import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiny_models import make_tiny

import continual_learning
from continual_learning.evaluation.code_digest import Code, code_digest
from continual_learning.evaluation.contender import base_key
from continual_learning.evaluation.sequence import MEASURING, measured_code
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.routing import default_rarity
from continual_learning.strategies.base import Strategy, strategy_class, strategy_names

pytestmark = pytest.mark.slow

PACKAGE = {
    "__init__.py": "",
    "store.py": '''"""Where things are kept."""

from pkg.words import LIMIT, split


class Memory:
    """Holds texts."""

    size: int = LIMIT
    """How many."""

    def learn(self, text: str) -> list[str]:
        """Cut and keep."""
        # the cut
        return split(text)

    def show(self) -> str:
        from pkg import display

        return display.table(self)
''',
    "words.py": """import re
LIMIT = 3
UNUSED = 1
def split(text):
    return re.split(PATTERN, text)
PATTERN = ' '
""",
    "display.py": "def table(memory):\n    return '|'\n",
    "method.py": """from pkg.store import Memory
from pkg import words

class Base(Memory):
    def learn(self, text):
        if not text:
            raise ValueError(f"no text {text!r}; expected some")
        return super().learn(text)[: words.LIMIT]

class Method(Base):
    def answer(self, text):
        return self.learn(text)
""",
    "other.py": "from pkg.store import Memory\nclass Other(Memory):\n    def answer(self, text):\n        return 2\n",
    "runner.py": "class SequenceRunner:\n    def _measure(self, method):\n        method.answer('x')\n",
}


def _digest(root: Path, files: dict[str, str], roots: Iterable[tuple[str, str]] = (("pkg.method", "Method"),)) -> str:
    """The digest of a package of these files."""
    shutil.rmtree(root / "pkg", ignore_errors=True)
    for name, text in files.items():
        (root / "pkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "pkg" / name).write_text(text)
    return Code({"pkg": root / "pkg"}).digest([*roots, ("pkg.runner", "SequenceRunner")])


def _with(name: str, old: str, new: str) -> dict[str, str]:
    assert old in PACKAGE[name]
    return {**PACKAGE, name: PACKAGE[name].replace(old, new)}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("store.py", "Where things are kept", "Things"),
        ("store.py", "Cut and keep", "Cuts"),
        ("store.py", "How many", "The most texts"),
        ("store.py", "# the cut", "# cut"),
        ("store.py", "text: str) -> list[str]", "text)"),
        ("words.py", "UNUSED = 1", "UNUSED = 2"),
        ("display.py", "'|'", "'-'"),  # nothing that is measured shows a memory
        ("other.py", "return 2", "return 3"),
        ("method.py", "expected some", "give one"),
        ("store.py", "import LIMIT, split", "import split, LIMIT"),
        ("method.py", "from pkg import words", "from . import words"),
        ("method.py", "from pkg import words", "import pkg.words as words"),
    ],
)
def test_what_changes_no_result_keeps_the_digest(tmp_path: Path, name: str, old: str, new: str) -> None:
    before = _digest(tmp_path, PACKAGE)
    assert _digest(tmp_path, _with(name, old, new)) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("words.py", "LIMIT = 3", "LIMIT = 4"),
        ("words.py", "' '", "','"),  # a constant of a function that is reached
        ("words.py", "import re\n", "import regex as re\n"),
        ("method.py", "if not text", "if text"),
        ("method.py", "words.LIMIT", "2"),
        ("store.py", "size: int", "size: float"),  # a field's type converts values
        ("runner.py", "'x'", "'y'"),
    ],
)
def test_what_may_change_a_result_changes_the_digest(tmp_path: Path, name: str, old: str, new: str) -> None:
    before = _digest(tmp_path, PACKAGE)
    assert _digest(tmp_path, _with(name, old, new)) != before


def test_code_may_move(tmp_path: Path) -> None:
    before = _digest(tmp_path, PACKAGE)
    moved = {name: text.replace("pkg.store", "pkg.memory.keep") for name, text in PACKAGE.items()}
    moved["memory/__init__.py"] = ""
    moved["memory/keep.py"] = moved.pop("store.py").replace("pkg.words", "pkg.memory")
    # one module in two, and another name for what was imported whole
    moved["memory/__init__.py"] = "from pkg.memory.cut import split as split\nfrom .number import LIMIT as LIMIT\n"
    moved["memory/cut.py"] = "import re\ndef split(text):\n    return re.split(PATTERN, text)\nPATTERN = ' '\n"
    moved["memory/number.py"] = "LIMIT = 3\n"
    moved["method.py"] = (
        moved["method.py"]
        .replace("from pkg import words", "from pkg.memory import number")
        .replace("words.", "number.")
    )
    del moved["words.py"]
    assert _digest(tmp_path, moved) == before


def test_local_names_hide_modules(tmp_path: Path) -> None:
    """An argument called as a module is: renaming the module leaves it alone."""
    method = "from pkg import words\nclass Method:\n    def answer(self, words):\n        return words.LIMIT\n"
    files = {**PACKAGE, "method.py": method}
    before = _digest(tmp_path, files)
    files["words.py"] = files["words.py"].replace("LIMIT = 3", "LIMIT = 4")
    assert _digest(tmp_path, files) == before


def test_methods_that_a_library_calls_are_reached(tmp_path: Path) -> None:
    network = "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x + 1\n"
    files = {**PACKAGE, "net.py": network, "method.py": "from pkg.net import Net\nclass Method:\n    net = Net()\n"}
    before = _digest(tmp_path, files)
    assert _digest(tmp_path, {**files, "net.py": network.replace("+ 1", "+ 2")}) != before


def test_data_files_count_where_the_code_names_them(tmp_path: Path) -> None:
    method = "class Method:\n    def answer(self, text):\n        return open('data/list.txt'), glob('data/nets')\n"
    data = {"data/list.txt": "a", "data/nets/one.bin": "b", "data/free.txt": "c"}
    files = {**PACKAGE, "method.py": method, **data}
    before = _digest(tmp_path, files)
    for name, matters in {"data/list.txt": True, "data/nets/one.bin": True, "data/free.txt": False}.items():
        assert (_digest(tmp_path, {**files, name: "z"}) != before) == matters, name


def test_code_without_a_file_is_measured_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    code_digest.cache_clear()
    try:
        assert measured_code("frozen") == measured_code("frozen")
        first = measured_code("frozen")
        code_digest.cache_clear()
        assert measured_code("frozen") != first
    finally:
        code_digest.cache_clear()


# The package itself
@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(str(continual_learning.__file__)).parent
    copy = tmp_path_factory.mktemp("tree") / "continual_learning"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return copy


def _of(tree: Path, strategy: str) -> str:
    cls = strategy_class(strategy)
    roots = [(each.__module__, each.__qualname__) for each in (cls, *MEASURING)]
    return Code({"continual_learning": tree}).digest(roots)


def _file(tree: Path, module: str) -> Path:
    path = tree.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_every_strategy_reaches_its_own_code_and_no_other_strategy(tree: Path) -> None:
    homes = {name: strategy_class(name).__module__ for name in strategy_names()}
    for name, home in homes.items():
        places, _ = Code({"continual_learning": tree}).closure([(home, strategy_class(name).__qualname__)])
        modules = {module for module, _ in places.values()}
        assert home in modules
        others = {h for n, h in homes.items() if n != name and any(m == h or m.startswith(f"{h}.") for m in modules)}
        assert not others, f"{name} reaches {others}"


def test_the_digest_of_one_strategy_is_quick() -> None:
    code_digest.cache_clear()
    started = time.process_time()
    assert measured_code("quote") != measured_code("frozen") != measured_code()
    assert time.process_time() - started < 6  # three closures; about 1.5 s on two slow cores


def test_docstrings_comments_and_places_of_the_package_do_not_matter(tree: Path) -> None:
    before = {name: _of(tree, name) for name in ("quote", "ttt")}
    kept: dict[Path, str] = {}
    for path in tree.rglob("*.py"):
        kept[path] = path.read_text(encoding="utf-8")
        module = ast.parse(kept[path])
        for node in ast.walk(module):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                node.value.value = "Worded anew."
        path.write_text("# a comment\n" + ast.unparse(module), encoding="utf-8")
    try:
        assert {name: _of(tree, name) for name in before} == before
    finally:
        for path, text in kept.items():
            path.write_text(text, encoding="utf-8")


def test_a_module_of_the_package_may_move_and_not_change(tree: Path) -> None:
    before = _of(tree, "quote")
    module = default_rarity.__module__
    old = _file(tree, module)
    text = old.read_text(encoding="utf-8")
    kept = {path: path.read_text(encoding="utf-8") for path in tree.rglob("*.py")}
    try:
        new = tree / "somewhere" / "else_.py"
        new.parent.mkdir()
        (new.parent / "__init__.py").write_text("")
        new.write_text(text, encoding="utf-8")
        old.unlink()
        package, _, leaf = module.rpartition(".")
        for path in tree.rglob("*.py"):
            changed = path.read_text(encoding="utf-8").replace(module, "continual_learning.somewhere.else_")
            whole = (f"from {package} import {leaf}", f"from continual_learning.somewhere import else_ as {leaf}")
            path.write_text(changed.replace(*whole), encoding="utf-8")
        assert _of(tree, "quote") == before
        new.write_text(text.replace("def default_rarity(", "@str\ndef default_rarity("), encoding="utf-8")
        assert _of(tree, "quote") != before
    finally:
        shutil.rmtree(tree / "somewhere")
        for path, source in kept.items():
            path.write_text(source, encoding="utf-8")


def test_hooks_that_measure_nothing_are_left_out(tree: Path) -> None:
    home = _file(tree, Strategy.__module__)
    text = home.read_text(encoding="utf-8")
    before = _of(tree, "quote")
    try:
        home.write_text(
            text.replace("    def write_peft(", "    def hung_up_here(self):\n        return 1\n\n    def write_peft(")
        )
        assert _of(tree, "quote") == before
        home.write_text(text.replace("    def answer_key(", "    @str\n    def answer_key("))
        assert _of(tree, "quote") != before
    finally:
        home.write_text(text)


@pytest.mark.parametrize(
    ("module", "old", "new", "matters"),
    [
        ("continual_learning.model.loading", "    if name in EMBEDDED:\n", "    if name.lower() in EMBEDDED:\n", False),
        ("continual_learning.model.dequantised", "def load_gguf(", "@str\ndef load_gguf(", False),
        ("continual_learning.model.tokenizer", "    def decode(", "    @str\n    def decode(", True),
        ("continual_learning.model.base_model", "    def decode(", "    @str\n    def decode(", True),
    ],
)
def test_how_a_base_is_loaded_is_left_out_and_what_it_does_is_not(
    tree: Path, module: str, old: str, new: str, matters: bool
) -> None:
    home = _file(tree, module)
    text = home.read_text(encoding="utf-8")
    assert old in text
    before = _of(tree, "quote")
    try:
        home.write_text(text.replace(old, new), encoding="utf-8")
        assert (_of(tree, "quote") != before) == matters
    finally:
        home.write_text(text, encoding="utf-8")


def test_the_key_of_a_base_has_what_loading_decides(tiny_base: BaseModel, tmp_path: Path) -> None:
    """Two bases of the same weights that read, or compute, differently."""
    key = base_key(tiny_base)
    folder = make_tiny("llama", tmp_path)
    assert base_key(BaseModel.load(str(folder), "cpu")) == key
    config = folder / "config.json"
    fields = json.loads(config.read_text())
    fields["rope_parameters"] = {**fields["rope_parameters"], "rope_theta": 500.0}
    config.write_text(json.dumps(fields))
    turned = BaseModel.load(str(folder), "cpu")
    assert turned.fingerprint == tiny_base.fingerprint and base_key(turned) != key
    other = BaseModel.load(str(make_tiny("llama", tmp_path / "plain", chat=False)), "cpu")
    assert other.fingerprint == tiny_base.fingerprint and base_key(other) != key
