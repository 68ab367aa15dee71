"""Which strategy learns best, and at what cost: the same documents and questions for all.

contender.py                       a strategy with its settings
sequence.py                        one contender learns and is asked, step by step, resumable
session.py                         many of them, with the remaining time
summary.py, metrics.py, bootstrap.py  from answers to figures
protocols.py                       compare and the benchmarks
bases.py                           any of them on several base models, in one result
report/                            HTML, Markdown, CSV
cache.py, machine.py               stored results, the machine
code_digest.py, code_nodes.py      whether a stored result is stale
"""
