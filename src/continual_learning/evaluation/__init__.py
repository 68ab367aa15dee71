"""Which way of learning, at what cost: the same documents and questions for every strategy.

datasets.py, squad.py, needle.py   what is learned and asked
contender.py                       a strategy with its settings
sequence.py                        one contender learns and is asked, step by step, resumable
session.py                         many of them, with the time that is left
summary.py, metrics.py, bootstrap.py  from answers to figures
protocols.py                       compare and the benchmarks
report/                            HTML, Markdown, CSV
cache.py, estimate.py, machine.py  results found again, time foretold, what it ran on
"""
