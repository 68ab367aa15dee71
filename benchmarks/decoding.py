"""Decoding speed: this package, Transformers' `generate`, and llama.cpp where it is installed.

    python benchmarks/decoding.py --out benchmarks

Greedy, 64 new tokens after prompts of 32 tokens, alone and in a batch of 16; the stop tokens are ignored, so that all
write the same number. The best of three runs counts, after one that warms up. Weights in 8 and 4 bits are measured
too, with what they do to the answers to the package's general questions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from blocks import write_block

from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.evaluation.machine import cpu_name, matmul_gflops
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.model.loading import locate
from continual_learning.reading.plain import plain_answers
from continual_learning.text.scoring import contains_answer

NEW_TOKENS, PROMPT_TOKENS, ROWS, RUNS = 64, 32, 16, 3


def best_seconds(work: Callable[[], object]) -> float:
    """Of three runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def prompts(base: BaseModel) -> list[list[int]]:
    """Sixteen different texts of the same length."""
    texts = [*unrelated_texts(), *(text[200:] for text in unrelated_texts())]
    return [base.encode(text)[:PROMPT_TOKENS] for text in texts[:ROWS]]


def ours(base: BaseModel, rows: list[list[int]]) -> float:
    """Tokens a second of this package."""
    return len(rows) * NEW_TOKENS / best_seconds(lambda: generate(base, rows, NEW_TOKENS))


def transformers(base: BaseModel, rows: list[list[int]]) -> float:
    """Tokens a second of Transformers' own loop."""
    ids_BT = torch.tensor(rows)
    given = {"do_sample": False, "min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}
    with torch.no_grad():
        seconds = best_seconds(lambda: base.model.generate(input_ids=ids_BT, attention_mask=ids_BT * 0 + 1, **given))
    return len(rows) * NEW_TOKENS / seconds


def llama_cpp(rows: list[list[int]]) -> dict[str, float] | None:
    """Tokens a second of llama.cpp on the embedded GGUF file, alone and in a batch; None where it is not installed.

    By xllamacpp, whose wheel holds llama.cpp built for any processor with AVX2: pip install xllamacpp
    """
    try:
        import xllamacpp
    except ImportError:
        return None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(locate("smollm2-135m"))
    parameters.n_parallel, parameters.n_ctx = ROWS, ROWS * 2 * (PROMPT_TOKENS + NEW_TOKENS)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(parameters)

    def written(prompt: list[int]) -> int:
        asked = {"prompt": prompt, "n_predict": NEW_TOKENS, "max_tokens": NEW_TOKENS, "temperature": 0.0,
                 "ignore_eos": True, "cache_prompt": False}  # fmt: skip
        return int(server.handle_completions(asked)["usage"]["completion_tokens"])

    def speed(some: list[list[int]]) -> float:
        def work() -> None:
            with ThreadPoolExecutor(len(some)) as pool:  # the server puts requests that come together into one batch
                counts = list(pool.map(written, some))
            if counts != [NEW_TOKENS] * len(some):
                raise RuntimeError(f"llama.cpp wrote {counts} tokens; expected {NEW_TOKENS} of each")

        return len(some) * NEW_TOKENS / best_seconds(work)

    return {"alone": speed(rows[:1]), "batch": speed(rows)}


def quality(bases: dict[str, BaseModel]) -> dict[str, dict[str, int]]:
    """What each precision does to the general questions: answers that are right, and that are those of fp32."""
    asked = general_questions()
    found = {name: plain_answers(base, [q.question for q in asked], 24) for name, base in bases.items()}
    return {
        name: {
            "questions": len(asked),
            "right": sum(contains_answer(a.text, q.answers) for a, q in zip(answers, asked, strict=True)),
            "same_answer": sum(a.text == b.text for a, b in zip(answers, found["fp32"], strict=True)),
        }
        for name, answers in found.items()
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, help="folder for decoding.json, with the README.md that has the block")
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.model)
    bases = {"fp32": base, **{name: BaseModel.load(arguments.model, precision=name) for name in ("int8", "int4")}}
    kept = quality(bases)
    for one in bases.values():
        one.stop_ids = frozenset()
    rows = prompts(base)
    result: dict[str, Any] = {
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "matmul_gflops": matmul_gflops(base.device),
        "prefill": len(rows) * PROMPT_TOKENS / best_seconds(lambda: generate(base, rows, 1)),
        "general_questions": kept,
        "rows": [],
    }
    table: list[dict[str, Any]] = result["rows"]
    for name, one in bases.items():
        table.append({"who": f"this package, {name}", "alone": ours(one, rows[:1]), "batch": ours(one, rows)})
        print(table[-1], flush=True)
    table.append({"who": "Transformers generate, fp32", "alone": transformers(base, rows[:1]),
                  "batch": transformers(base, rows)})  # fmt: skip
    cpp = llama_cpp(rows)
    if cpp is not None:
        table.append({"who": "llama.cpp, the same GGUF file (4 bits)", **cpp})
    lines = [f"| tokens a second | alone | batch of {ROWS} |", "|---|---|---|"]
    lines += [f"| {row['who']} | {row['alone']:.0f} | {row['batch']:.0f} |" for row in table]
    lines += [
        "",
        f"Reading prompts: {result['prefill']:.0f} tokens a second. {result['machine']}.",
        f"Of {kept['fp32']['questions']} general questions {kept['fp32']['right']} are right in fp32, "
        f"{kept['int8']['right']} in int8 and {kept['int4']['right']} in int4; {kept['int8']['same_answer']} and "
        f"{kept['int4']['same_answer']} answers are those of fp32 to a letter.",
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        (arguments.out / "decoding.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_block(arguments.out / "README.md", "decoding", text)


if __name__ == "__main__":
    main()
