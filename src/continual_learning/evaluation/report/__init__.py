"""Reports of an evaluation: one result in; a page, a table or a file out.

A result is the plain dictionary that every protocol returns: the run (``protocol``, ``command``, ``seconds``,
``machine``, ``model``, ``dataset``, ``settings``, ``notes``) and ``results``, one object per strategy. A run on several
base models has ``models`` in place of ``model``, and the ``model`` in every row (`evaluation.bases`). A number may be
None if it was not measured or is undefined; it is shown as a dash. Nothing here imports PyTorch.
"""

from __future__ import annotations

from continual_learning.evaluation.report.html import render_html
from continual_learning.evaluation.report.markdown import render_markdown
from continual_learning.evaluation.report.tables import render_answers_csv, render_csv
from continual_learning.evaluation.report.writing import RENDERERS, write_report

__all__ = ["RENDERERS", "render_answers_csv", "render_csv", "render_html", "render_markdown", "write_report"]
