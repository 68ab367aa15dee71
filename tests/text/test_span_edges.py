"""Where quotations may begin and end."""

import pytest

from continual_learning.text.span_edges import span_edges


def quotable(text: str, part: str) -> bool:
    """Whether ``part`` may be quoted from ``text``."""
    starts, ends = span_edges(text)
    start = text.index(part)
    return start in starts and start + len(part) in ends


@pytest.mark.parametrize(
    ("text", "whole", "cut"),
    [
        ("It moved to eu-west-3, on 4 March (Tuesday).", ["eu-west-3", "4 March", "Tuesday"], ["eu", "west-3", "3"]),
        ("Beyoncé's “first” album", ["Beyoncé", "Beyoncé's", "first"], ["Beyonc", "s"]),
        ("The U.S. army, with Ken Jr. here", ["U.S.", "Ken Jr."], ["U.S", "S.", "Jr"]),
        ("Open 9:00–17:00 or 9am-5pm, 1914-1918", ["9:00", "17:00", "9:00–17:00", "5pm", "1914", "1918"], ["00"]),
        ("Released as v2.10.1 for 3.5 or 1,000,000.", ["v2.10.1", "3.5", "1,000,000"], ["v2", "2.10.1", "1,000"]),
        ("Run `make test FOO=1` first", ["make test FOO=1"], ["make test", "make", "FOO=1", "1"]),
        ("see https://x.org/a,b?c=1. Mail a.b@c.de.", ["https://x.org/a,b?c=1", "a.b@c.de"], ["x.org", "c.de"]),
        ("Edit ~/app/settings.toml, ./run.sh and src/a.py", ["~/app/settings.toml", "./run.sh"], ["app", "run.sh"]),
        ("Pass --dry-run, or -n; __init__, f(x), a[0]", ["--dry-run", "-n", "__init__", "f(x)", "a[0]"], ["init", "f"]),
        ("for $6,000, $ 5.5 million, EUR 20", ["$6,000", "$ 5.5 million", "EUR 20"], ["6,000", "$ 5.5", "20"]),
        ("left are 18 400 €, or 50€", ["18 400 €", "50€"], ["400 €", "18 400", "18", "50"]),
        ("10 % of 5 km, 20 °C, -5 °C, 8km", ["10 %", "5 km", "5", "20 °C", "-5 °C", "8km"], ["10", "km", "20", "8"]),
        ("- [ ] **Bold** and _slanted words_ |x|y|", ["Bold", "slanted words", "x", "y"], ["**Bold**", "[ ]"]),
        ("[the docs](https://a.org/x) (NATO), C++", ["the docs", "https://a.org/x", "NATO", "C++"], ["(NATO)", "C"]),
        ("```\n$ make all  # builds\nport: 8080\n```\n", ["make all", "port: 8080", "8080"], ["make", "port", "80"]),
        ("here.[citation needed] in Paris.:12 again", ["here", "Paris"], ["here.[citation"]),
        ("东京 333 米。", ["东京", "东", "333 米"], ["33"]),
    ],
)  # fmt: skip
def test_quotations_are_whole(text: str, whole: list[str], cut: list[str]) -> None:
    assert [part for part in whole if not quotable(text, part)] == []
    assert [part for part in cut if quotable(text, part)] == []


@pytest.mark.parametrize("text", ["", "  \n", "*** — | …", "`"])
def test_a_text_without_words_has_no_edges(text: str) -> None:
    assert span_edges(text) == ([], [])
