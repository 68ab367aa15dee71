"""The report in a real browser: its script runs, nothing is logged, and no width makes the page scroll sideways."""

from __future__ import annotations

import html as markup
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_results import result

from continual_learning.evaluation.report import render_html

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr"
).split()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BROWSER, reason="no browser: chromium and chromium-browser are not on PATH, and CHROMIUM is not set"
    ),
]


def opened(html: str, folder: Path) -> tuple[str, list[str]]:
    """The page as it is after its scripts ran, and what they logged to the console."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=180, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def driven(html: str, script: str, folder: Path) -> str:
    """What a script finds that runs after the report's own: the value of its ``found``."""
    allowed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    done = f"<script>let found; {script}; document.body.dataset.found = String(found);</script></body>"
    shown, logged = opened(allowed.replace("</body>", done), folder)
    assert not logged
    match = re.search(r'<body[^>]* data-found="([^"]*)"', shown)
    assert match, "the script did not end"
    return markup.unescape(match[1])


@pytest.mark.parametrize("protocol", ["compare", "stream", "needle"])
def test_the_script_runs_and_nothing_is_logged(protocol: str, tmp_path: Path) -> None:
    html = render_html(result(protocol, documents=4))
    assert "data-ready" not in html
    shown, logged = opened(html, tmp_path)
    assert not logged
    assert re.search(r'<html[^>]* data-ready="true"', shown)
    assert shown.count("<button") > 5, "a button in every head of the table, and one to open documents"
    assert re.search(r'class="controls">', shown), "the filter is shown"


def test_a_script_that_got_in_is_not_run_and_is_noticed(tmp_path: Path) -> None:
    html = render_html(result(documents=1))
    shown, logged = opened(html.replace("</main>", "<script>document.title = 'owned'</script></main>"), tmp_path)
    assert logged and "Content Security Policy" in logged[0]
    assert "<title>owned</title>" not in shown


def test_sorting(tmp_path: Path) -> None:
    script = """
      const table = document.querySelector("table[data-sortable]");
      const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].dataset.value).join(" ");
      const click = (column) => { table.tHead.rows[0].cells[column].querySelector("button").click(); return names(); };
      found = [click(0), click(4), click(4), click(9), table.tHead.querySelectorAll("[aria-sort]").length].join("; ")
    """
    given = result(strategies=4, documents=1)
    assert driven(render_html(given), script, tmp_path).split("; ") == [
        "frozen in_context rag ttt",
        "frozen in_context rag ttt",
        "ttt rag in_context frozen",
        "ttt rag in_context frozen",  # GFLOP: only ttt has them, and what is missing stands last
        "1",
    ]


def test_filter_and_fold(tmp_path: Path) -> None:
    script = """
      const rows = [...document.querySelectorAll("#answers tbody tr")];
      const seen = () => rows.filter((row) => row.checkVisibility()).length;
      const press = (control) => document.querySelector(`[data-control=${control}]`).click();
      found = [seen()];
      press("fold"); found.push(seen());
      press("differ"); found.push(seen());
      press("differ"); press("fold"); found.push(seen())
    """
    html = render_html(result(documents=20))
    differing = int(re.search(r"strategies differ \((\d+) of 100\)", html)[1])  # type: ignore[index]
    assert 0 < differing < 100
    assert driven(html, script, tmp_path) == f"5,100,{differing},0"


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_does_not_scroll_sideways(width: int, tmp_path: Path) -> None:
    html = render_html(result("stream", documents=20))
    inner = markup.escape(re.sub(r"<meta http-equiv[^>]*>", "", html))
    frame = f'<!DOCTYPE html><body><iframe style="width: {width}px; height: 800px" srcdoc="{inner}"></iframe></body>'
    script = """
      const measure = () => {
        const root = document.querySelector("iframe").contentDocument.documentElement;
        for (const details of root.querySelectorAll("details")) details.open = true;
        document.body.dataset.found = [root.clientWidth, root.scrollWidth].join(",");
      };
      addEventListener("load", measure);
    """
    shown, logged = opened(frame.replace("</body>", f"<script>{script}</script></body>"), tmp_path)
    assert not logged
    found = re.search(r'data-found="(\d+),(\d+)"', shown)
    assert found and width - 20 <= int(found[1]) <= width
    assert int(found[2]) <= int(found[1])
