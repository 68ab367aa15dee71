"""Decoding speed: this package, Transformers' `generate`, and llama.cpp if it is installed.

Greedy, 64 new tokens after prompts of 32 tokens, alone and in a batch of 16; stop tokens are ignored, so that all
write the same number. The best of three runs counts, after a warm-up. Weights in 8 and 4 bits are measured
too, with their effect on the answers to the package's general questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.model.embedded import locate
from continual_learning.model.generation import generate
from continual_learning.reading.plain import plain_answers
from continual_learning.text.scoring import contains_answer
from protocols import Bench

NEW_TOKENS, PROMPT_TOKENS, ROWS, RUNS = 64, 32, 16, 3


def best_seconds(work: Callable[[], object]) -> float:
    """The fastest of three runs, after a warm-up."""
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
    """Tokens per second of this package."""
    return len(rows) * NEW_TOKENS / best_seconds(lambda: generate(base, rows, NEW_TOKENS))


def transformers(base: BaseModel, rows: list[list[int]]) -> float:
    """Tokens per second of Transformers' own loop."""
    ids_BT = torch.tensor(rows)
    given = {"do_sample": False, "min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}
    with torch.no_grad():
        seconds = best_seconds(lambda: base.model.generate(input_ids=ids_BT, attention_mask=ids_BT * 0 + 1, **given))
    return len(rows) * NEW_TOKENS / seconds


def llama_cpp(rows: list[list[int]]) -> dict[str, float] | None:
    """Tokens per second of llama.cpp on the embedded GGUF file, alone and in a batch; None if it is not installed.

    It uses xllamacpp, whose wheel contains llama.cpp built for any processor with AVX2: pip install xllamacpp
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
            with ThreadPoolExecutor(len(some)) as pool:  # the server puts simultaneous requests into one batch
                counts = list(pool.map(written, some))
            if counts != [NEW_TOKENS] * len(some):
                raise RuntimeError(f"llama.cpp wrote {counts} tokens; expected {NEW_TOKENS} of each")

        return len(some) * NEW_TOKENS / best_seconds(work)

    return {"alone": speed(rows[:1]), "batch": speed(rows)}


def quality(bases: dict[str, BaseModel]) -> dict[str, dict[str, int]]:
    """The effect of each precision on the general questions: answers that are right, and that equal those of fp32."""
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


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure all rows in one run, since they are compared with each other."""
    base = bench.base
    bases = {"fp32": base, **{name: BaseModel.load(base.name, precision=name) for name in ("int8", "int4")}}
    kept = quality(bases)
    for one in bases.values():
        one.stop_ids = frozenset()
    rows = prompts(base)
    prefill = len(rows) * PROMPT_TOKENS / best_seconds(lambda: generate(base, rows, 1))
    found = [
        {"who": f"this package, {name}", "alone": ours(one, rows[:1]), "batch": ours(one, rows)}
        for name, one in bases.items()
    ]
    speeds = {"alone": transformers(base, rows[:1]), "batch": transformers(base, rows)}
    found.append({"who": "Transformers generate, fp32", **speeds})
    cpp = llama_cpp(rows)
    if cpp is not None:
        found.append({"who": "llama.cpp, the same GGUF file (4 bits)", **cpp})
    return (
        {"prefill": prefill, "general_questions": kept, "rows": found},
        {"rows": ROWS, "new_tokens": NEW_TOKENS},
        None,
    )


def table(results: Mapping[str, Any]) -> str:
    """Tokens per second as Markdown."""
    lines = []
    for result in results.values():
        found, kept = result["figures"], result["figures"]["general_questions"]
        lines += [f"| tokens a second | alone | batch of {ROWS} |", "|---|---|---|"]
        lines += [f"| {row['who']} | {row['alone']:.0f} | {row['batch']:.0f} |" for row in found["rows"]]
        lines += [
            "",
            f"Reading prompts: {found['prefill']:.0f} tokens a second.",
            f"Of {kept['fp32']['questions']} general questions {kept['fp32']['right']} are right in fp32, "
            f"{kept['int8']['right']} in int8 and {kept['int4']['right']} in int4; {kept['int8']['same_answer']} and "
            f"{kept['int4']['same_answer']} answers are those of fp32 to a letter.",
        ]
    return "\n".join(lines)
