"""A cold ``ask`` imports only what its answer needs: each of these modules takes longer to import than an answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("transformers", "torch._dynamo", "sympy", "sklearn", "scipy", "pandas", "huggingface_hub", "matplotlib")


@pytest.mark.model
@pytest.mark.parametrize("strategy", ["quote", "rag", "ttt"])
def test_ask_imports_no_heavy_library(strategy: str, tmp_path: Path) -> None:
    document = tmp_path / "ferry.txt"
    document.write_text("Tidewick is known for its bell. The ferry to Orsel leaves at nine.")
    memory = str(tmp_path / "memory")

    def run(*words: str) -> str:
        code = (
            "import sys\nfrom continual_learning.cli.main import main\ntry:\n main(sys.argv[1:])\n"
            "except SystemExit as end:\n assert not end.code, end.code\n"
            f"print(*(m for m in {HEAVY!r} if m in sys.modules), sep=',')"
        )
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    run("learn", str(document), "--strategy", strategy, "--memory", memory)
    assert run("ask", "When does the ferry to Orsel leave?", "--memory", memory) == ""
