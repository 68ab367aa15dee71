"""Fetching pages: what comes back, and what no page may do."""

from __future__ import annotations

import gzip
import ipaddress
import shutil
import socket
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from document_makers import TEXT, docx, html, pdf, sitemap

from continual_learning.app.learner import Learner
from continual_learning.documents import Document, Limits, read_documents, web, without_secret
from continual_learning.errors import DocumentError, MissingExtraError

OPEN = Limits(allow_private=True, pause=0, timeout=5)


def refusal(url: str, limits: Limits = OPEN) -> str:
    with pytest.raises(DocumentError) as caught:
        read_documents(url, limits=limits)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(without_secret(url)[:50])
    return message


# -- pages -----------------------------------------------------------------------------------------


def test_a_page(site: Any) -> None:
    url = site.put("/jellies.html", html())
    [document], skipped = read_documents(url, limits=OPEN)
    assert TEXT in document.text and "Imprint" not in document.text
    assert (document.title, document.source, skipped) == ("Comb jellies", url, [])


def test_other_kinds_of_pages(site: Any) -> None:
    for path, content, kind in (
        ("/a.pdf", pdf("A text."), "application/pdf"),
        ("/get?id=1", docx("A text."), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("/notes.md", "# T\nA text.", "text/plain"),
        ("/no-type.txt", "A text.", ""),
    ):
        [document], _ = read_documents(site.put(path, content, kind), limits=OPEN)
        assert "A text." in document.text and document.title
    rows = site.put("/d.jsonl", '{"text": "one"}\n{"text": "two", "source": "x"}', "application/jsonl")
    assert [d.source for d in read_documents(rows, limits=OPEN)[0]] == [f"{rows}:1", "x"]
    assert "image/png" in refusal(site.put("/a.png", b"\x89PNG", "image/png"))


def test_a_page_is_no_sitemap_because_of_its_name(site: Any) -> None:
    [document], _ = read_documents(site.put("/page.xml", html(), "application/xhtml+xml"), limits=OPEN)
    assert TEXT in document.text


def test_the_charset_that_the_server_names_counts(site: Any) -> None:
    url = site.put("/a", html("море и небо, небо и море, всё это здесь").encode("koi8-r"), "text/html; charset=koi8-r")
    assert "море" in read_documents(url, limits=OPEN)[0][0].text


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain; charset=iso-8859-1", "Die Mühle".encode("latin-1"), "Die Mühle"),
        ("text/plain; charset=shift_jis", "日本語".encode("shift_jis"), "日本語"),
        ("text/plain", "Die Mühle".encode("cp1252"), "Die Mühle"),
        ("text/plain", "Die Mühle".encode("utf-16"), "Die Mühle"),
        ("text/plain; charset=no-such", "Die Mühle".encode(), "Die Mühle"),
        ("text/csv; charset=latin1", "Wer;Was\nKäthe;3\n".encode("latin-1"), "Wer: Käthe; Was: 3."),
        ("application/json; charset=utf-8", '{"wer": "Käthe"}'.encode(), "wer: Käthe."),
        ("application/javascript", b"let x = 1", "let x = 1"),
        ("", b"<!-- x --><!DOCTYPE HTML><p>Some words.", "Some words."),
        ("application/octet-stream", b"<html><p>Some words.", "Some words."),
        ("", b"\xef\xbb\xbfSome words.", "Some words."),
        ("", b"{\\rtf1 Some words.}", "Some words."),
        ("binary/octet-stream", pdf("Some words."), "Some words."),
        ("application/zip", docx("Some words."), "Some words."),
        ("text/plain", docx("Some words."), "Some words."),
        (
            "application/xml",
            b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><p>A &amp; b.</p></html>",
            "A & b.",
        ),
        ("text/xml", b"<x:html xmlns:x='http://www.w3.org/1999/xhtml'><x:p>Some words.</x:p></x:html>", "Some words."),
    ],
)
def test_pages_as_servers_send_them(site: Any, content_type: str, content: bytes, text: str) -> None:
    [document], _ = read_documents(site.put("/page", content, content_type), limits=OPEN)
    assert document.text == text


def test_a_page_without_a_type_goes_by_its_name_if_it_is_text(site: Any) -> None:
    assert read_documents(site.put("/a.csv", "a,b\n1,2\n", ""), limits=OPEN)[0][0].text == "a: 1; b: 2."
    assert read_documents(site.put("/index.php", html(), ""), limits=OPEN)[0][0].title == "Comb jellies"
    assert "unknown" in refusal(site.put("/a", b"\x7fELF\0", ""))


def packed(site: Any, packing: str, body: bytes) -> str:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Content-Encoding", packing)
        handler.end_headers()
        handler.wfile.write(body)

    site.pages["/packed"] = answer
    return str(site.url + "/packed")


def test_a_page_packed_as_br(site: Any) -> None:
    brotli = pytest.importorskip("brotli")
    url = packed(site, "br", brotli.compress(b"A packed text."))
    assert read_documents(url, limits=OPEN)[0][0].text == "A packed text."
    started = time.monotonic()
    bomb = packed(site, "br", brotli.compress(bytes(300_000_000), quality=1))
    assert "more than 50,000 bytes" in refusal(bomb, OPEN.model_copy(update={"max_bytes": 50_000}))
    assert time.monotonic() - started < 20
    assert "not packed as br" in refusal(packed(site, "br", b"A text."))


def test_a_page_packed_in_another_way_is_refused(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'zstd'; expected gzip, deflate or br" in refusal(packed(site, "zstd", b"x"))
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(MissingExtraError, match="brotli"):
        read_documents(packed(site, "br", b"x"), limits=OPEN)


def test_a_page_packed_by_the_server(site: Any) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = gzip.compress(b"A packed text.")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(body)

    site.pages["/a"] = answer
    assert read_documents(site.url + "/a", limits=OPEN)[0][0].text == "A packed text."


def test_errors_of_servers(site: Any) -> None:
    assert "404" in refusal(site.url + "/absent")
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    assert "no connection" in refusal(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    closed.close()
    site.pages["/hangup"] = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    assert "could not be fetched" in refusal(site.url + "/hangup")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "scheme 'file'"),
        ("http://user:secret@example.org/", "user name or password"),
        ("http:///path", "no host"),
        ("http://[::1/", "not a URL"),
        ("http://example.org:99999/", "not a URL"),
        ("http://no-such-host.invalid/", "is not known"),
        ("http://a\0b.example/", "is not known"),
        ("http://" + "a" * 70 + ".example/", "is not known"),
    ],
)
def test_urls_that_are_not_fetched(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    original = socket.getaddrinfo

    def offline(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(-2, "Name or service not known")
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    message = refusal(url)
    assert said in message and "secret" not in message


# -- limits ----------------------------------------------------------------------------------------


def test_size(site: Any) -> None:
    url = site.put("/a.txt", "x" * 100, "text/plain")
    assert len(read_documents(url, limits=OPEN.model_copy(update={"max_bytes": 100}))[0][0].text) == 100
    assert "100 bytes" in refusal(url, OPEN.model_copy(update={"max_bytes": 99}))


@pytest.mark.parametrize("packed", [False, True])
def test_size_that_no_header_announces(site: Any, packed: bool) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        if packed:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        piece = gzip.compress(bytes(1_000_000)) if packed else b"x" * 10_000
        for _ in range(1 if packed else 1000):
            handler.wfile.write(piece)

    site.pages["/long"] = answer
    assert "more than 50,000 bytes" in refusal(site.url + "/long", OPEN.model_copy(update={"max_bytes": 50_000}))


@pytest.mark.parametrize("drip", [False, True, "headers"])
def test_time(site: Any, drip: bool | str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if drip == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(60):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.end_headers()
        for _ in range(40 if drip else 1):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05 if drip else 1.5)

    site.pages["/slow"] = answer
    started = time.monotonic()
    message = refusal(site.url + "/slow", OPEN.model_copy(update={"timeout": 0.3}))
    assert "0.3 s" in message
    assert time.monotonic() - started < 1.2


def test_redirects_are_followed_and_counted(site: Any) -> None:
    end = site.put("/end/page.html", html())
    site.redirect("/2", "end/page.html", 301)
    url = site.redirect("/1", "/2", 307)
    assert read_documents(url, limits=OPEN)[0][0].source == end
    assert "more than 1 redirects" in refusal(url, OPEN.model_copy(update={"max_redirects": 1}))
    assert "redirects" in refusal(site.redirect("/loop", "/loop"))
    assert "scheme 'file'" in refusal(site.redirect("/file", "file:///etc/passwd"))
    assert "which is no URL" in refusal(site.redirect("/wrong", "http://[half/"))


# -- private addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 255.255.255.255 240.0.0.1 "
    "::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1 64:ff9b::a00:1 "
    "2001:0:4136:e378:8000:63bf:80ff:fffe".split(),
)
def test_what_is_not_public(address: str) -> None:
    assert not web.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_public(address: str) -> None:
    assert web.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_unless_allowed(site: Any, host: str) -> None:
    port = site.url.rpartition(":")[2]
    site.put("/a.txt", "text", "text/plain")
    message = refusal(f"http://{host}:{port}/a.txt", OPEN.model_copy(update={"allow_private": False}))
    assert "not a public address" in message and "--allow-private" in message
    assert site.asked == []


def pretend(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]], public: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Resolve names in turn to addresses; call some of them public. Returns the names asked for."""
    asked: list[str] = []
    original, is_public = socket.getaddrinfo, web.is_public

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in names:
            return original(host, port, *arguments, **options)
        asked.append(name)
        address = names[name].pop(0) if len(names[name]) > 1 else names[name][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(web, "is_public", lambda ip: str(ip) in public or is_public(ip))
    return asked


def test_a_name_is_resolved_once_and_the_connection_goes_to_the_checked_address(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer of the name server would be another address."""
    port = site.url.rpartition(":")[2]
    site.put("/a.txt", "text", "text/plain")
    asked = pretend(monkeypatch, {"rebind.example": ["127.0.0.1", "127.0.0.2"]}, public={"127.0.0.1"})
    [document], _ = read_documents(f"http://rebind.example:{port}/a.txt")
    assert asked == ["rebind.example"]
    assert site.hosts == [f"rebind.example:{port}"], "the server is asked for the name, not for the number"
    assert document.source == f"http://rebind.example:{port}/a.txt"


def test_a_name_that_moves_to_a_private_address_is_refused_at_its_redirect(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = site.url.rpartition(":")[2]
    site.put("/a.txt", "secret", "text/plain")
    site.redirect("/go", "/a.txt")
    pretend(monkeypatch, {"rebind.example": ["127.0.0.1", "127.0.0.2"]}, public={"127.0.0.1"})
    message = refusal(f"http://rebind.example:{port}/go", Limits())
    assert "127.0.0.2, which is not a public address" in message
    assert site.asked == ["/go"]


def test_a_redirect_to_a_private_address_is_refused(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    port = site.url.rpartition(":")[2]
    site.redirect("/go", f"http://localhost:{port}/a.txt")
    pretend(monkeypatch, {"public.example": ["127.0.0.1"], "localhost": ["127.0.0.3"]}, public={"127.0.0.1"})
    assert "'localhost' is at 127.0.0.3" in refusal(f"http://public.example:{port}/go", Limits())


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert "10.0.0.1" in refusal("http://both.example/", Limits())


def test_the_other_end_of_the_socket_is_checked_too(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever resolving said: here it says that a private address is fine."""
    site.put("/a.txt", "text", "text/plain")
    monkeypatch.setattr(web, "resolve", lambda *_: [ipaddress.ip_address("127.0.0.1")])
    assert "127.0.0.1, which is not a public address" in refusal(site.url + "/a.txt", Limits())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_must_be_for_the_name_although_the_address_is_asked(
    site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=docs.example"
    names = ["-addext", "subjectAltName=DNS:docs.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.put("/a.txt", "text", "text/plain")
    pretend(monkeypatch, {"docs.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}, public={"127.0.0.1"})
    port = site.server.server_port
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(f"https://docs.example:{port}/a.txt")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert read_documents(f"https://docs.example:{port}/a.txt", limits=OPEN)[0][0].text == "text"
    assert "Hostname mismatch" in refusal(f"https://other.example:{port}/a.txt")


def test_proxies_are_not_used(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    url = site.put("/a.txt", "text", "text/plain")
    assert read_documents(url, limits=OPEN)[0][0].text == "text"


# -- sitemaps --------------------------------------------------------------------------------------


def test_a_sitemap_is_its_pages_and_one_bad_page_never_stops_the_rest(site: Any) -> None:
    good = [
        site.put(f"/p{i}.html", html(f"Page number {i} tells about jellies in the sea.", title=f"P{i}")) for i in (1, 2)
    ]
    absent, elsewhere = site.url + "/absent.html", "http://other.example/p.html"
    picture = site.put("/x.png", b"x", "image/png")
    url = site.put("/sitemap.xml", sitemap(good[0], absent, elsewhere, picture, good[1], good[0]), "application/xml")
    steps: list[Any] = []
    documents, skipped = read_documents(url, limits=OPEN, progress=steps.append)
    assert [(d.title, d.source) for d in documents] == [("P1", good[0]), ("P2", good[1])]
    assert {s.source: s.reason.partition(",")[0].partition(";")[0] for s in skipped} == {
        absent: "the server answered 404 Not Found",
        elsewhere: "not on " + site.url.removeprefix("http://"),
        picture: "the page is of type image/png",
    }
    assert (steps[0].message, steps[-1].message, steps[-1].total) == (url, good[1], 4)


def test_sitemaps_of_sitemaps(site: Any) -> None:
    page = site.put("/p.html", html())
    inner = site.put("/inner.xml.gz", gzip.compress(sitemap(page).encode()), "application/gzip")
    bad = site.put("/bad.xml", "<html/>", "text/xml")
    own = site.url + "/sitemap.xml"
    site.put("/sitemap.xml", sitemap(inner, bad, own, site.url + "/absent.xml", kind="sitemapindex"), "text/xml")
    documents, skipped = read_documents(own, limits=OPEN)
    assert [d.source for d in documents] == [page]
    assert {s.source for s in skipped} == {bad, site.url + "/absent.xml"}


def test_the_number_of_pages_is_limited(site: Any) -> None:
    pages = [site.put(f"/p{i}.html", html(f"Page {i} is about the sea and what lives in it.")) for i in range(4)]
    url = site.put("/sitemap.xml", sitemap(*pages), "text/xml")
    documents, skipped = read_documents(url, limits=OPEN.model_copy(update={"max_pages": 3}))
    assert len(documents) == 3 and [s.source for s in skipped] == [pages[3]]
    assert "max_pages" in skipped[0].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<urlset/>", "lists no page"),
        ("<feed><entry/></feed>", "root 'feed'"),
        ("not xml", "not XML"),
        (gzip.compress(bytes(60_000_000)), "unpacks to more than"),
        (b"\x1f\x8b broken", "damaged"),
    ],
)
def test_what_is_no_sitemap(site: Any, content: str | bytes, said: str) -> None:
    url = site.put("/sitemap.xml", content, "text/xml")
    assert said in refusal(url, OPEN.model_copy(update={"max_bytes": 1_000_000}))


def test_places_in_a_sitemap_that_are_no_urls(site: Any) -> None:
    page = site.put("/a.html", html())
    url = site.put("/sitemap.xml", sitemap("http://[half/", "ftp", page), "text/xml")
    documents, skipped = read_documents(url, limits=OPEN)
    assert [d.source for d in documents] == [page]
    assert [(s.source, s.reason.split(",")[0]) for s in skipped] == [
        ("http://[half/", "not a URL (Invalid IPv6 URL)"),
        ("ftp", f"not on {site.url.removeprefix('http://')}"),
    ]


def test_none_of_the_pages(site: Any) -> None:
    url = site.put("/sitemap.xml", sitemap(site.url + "/a", site.url + "/b"), "text/xml")
    message = refusal(url)
    assert "none of the pages" in message and "404" in message


def test_an_entity_bomb_is_not_expanded(site: Any) -> None:
    layers = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 20}">' for i in range(1, 9))
    bomb = f'<!DOCTYPE u [<!ENTITY l0 "lol">{layers}]><urlset><url><loc>&l8;</loc></url></urlset>'
    started = time.monotonic()
    refusal(site.put("/sitemap.xml", bomb, "text/xml"))
    assert time.monotonic() - started < 5


# -- through the learner ---------------------------------------------------------------------------


def test_a_learner_takes_a_url(site: Any, tiny_base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    port = site.url.rpartition(":")[2]
    site.put("/p.html", html())
    pretend(monkeypatch, {"docs.example": ["127.0.0.1"]}, public={"127.0.0.1"})
    url = f"http://docs.example:{port}/p.html"
    learner = Learner.open(tiny_base, "in_context")
    report = learner.learn(url)
    assert report.accepted and (report.title, learner.documents[0].source) == ("Comb jellies", url)
    with pytest.raises(DocumentError, match="not a public address"):
        learner.learn(f"http://127.0.0.2:{port}/p.html")
    again = learner.learn([Document(TEXT, "Other"), url])
    assert [r.accepted for r in again] == [True, False]


def test_a_learner_reports_on_each_row_that_is_a_document(tiny_base: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "One text."}, {"text": "Two texts."}]')
    reports = Learner.open(tiny_base, "in_context").learn(path)
    assert isinstance(reports, list) and [report.accepted for report in reports] == [True, True]
