"""One page over HTTP, within limits and from public addresses only.

The name is resolved here, once for every request; every address is checked, and the connection goes to a checked
address and not to the name again, so that an answer of the name server that changes in between (DNS rebinding) leads
nowhere. Redirects are followed one by one with the same checks. Proxies are not used: behind one, nobody could tell
where a request ends.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from continual_learning.documents.document import shortened
from continual_learning.documents.extra import library
from continual_learning.documents.limits import Limits
from continual_learning.errors import DocumentError

_HEADERS = {
    "User-Agent": "continual-learning-slm (reads pages that its user names)",
    "Accept": "text/html,application/xhtml+xml,application/pdf,application/xml;q=0.9,text/*;q=0.9,*/*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}
_REDIRECTS = {301, 302, 303, 307, 308}
_PIECE = 65_536  # bytes that are unpacked at a time
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Page:
    """The response of a server."""

    url: str
    """The address after all redirects."""
    data: bytes
    content_type: str
    """In lower case, without parameters; empty if the server gave none."""
    charset: str | None


class _Clock:
    """The time limit of one page."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise DocumentError(f"the page took longer than {self.seconds:g} s; give it more with documents.timeout")
        return left

    @contextlib.contextmanager
    def closing(self, client: Any) -> Iterator[None]:
        """Close the client when time is up: its own timeouts restart with every byte received."""
        timer = threading.Timer(self.left(), client.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def fetch(url: str, limits: Limits) -> Page:
    """Fetch a page. Raises DocumentError, one line without the URL, and MissingExtraError without httpx."""
    httpx = library("httpx", "a web page")
    clock = _Clock(limits.timeout)
    for _ in range(limits.max_redirects + 1):
        host, port = _target(url)
        errors: list[str] = []
        addresses = resolve(host, port, limits.allow_private)
        for number, address in enumerate(addresses):
            wait = httpx.Timeout(clock.left(), connect=clock.left() / (len(addresses) - number))
            try:
                found = _request(httpx, url, host, address, limits, wait, clock)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                errors.append(f"{address}: {shortened(str(error), 100)}")
                continue  # the name may have another address
            except httpx.TimeoutException:
                clock.left()
                raise DocumentError(f"no answer within {limits.timeout:g} s; try again later") from None
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, RuntimeError) as error:
                clock.left()  # closed by the clock
                kind = type(error).__name__
                raise DocumentError(f"the page could not be fetched ({kind}: {shortened(str(error), 100)})") from None
            break
        else:
            raise DocumentError(f"no connection ({'; '.join(errors)}); check the address and the network")
        if isinstance(found, Page):
            return found
        url = found
    raise DocumentError(f"more than {limits.max_redirects} redirects, the last to {shortened(url, 100)}")


def _target(url: str) -> tuple[str, int]:
    """Host and port. Refuses anything but HTTP(S), and URLs with a secret, as the URL becomes the source."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DocumentError(f"not a URL ({error}); expected one like https://example.org/page") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise DocumentError(f"scheme {parts.scheme!r} is not fetched; expected http or https")
    if not host:
        raise DocumentError("it has no host; expected a URL like https://example.org/page")
    if parts.username is not None or parts.password is not None:
        raise DocumentError("it holds a user name or password; save the page and give the file")
    return host, port or (443 if parts.scheme.lower() == "https" else 80)


def resolve(host: str, port: int, allow_private: bool) -> list[IP]:
    """The addresses of a host. One that is not public, unless allowed, refuses all of them."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"host {host!r} is not known ({shortened(reason, 100)}); check the spelling") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    addresses = list(dict.fromkeys(addresses))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise DocumentError(_private(host, address))
    return addresses


def is_public(address: IP) -> bool:
    """Whether an address, or the IPv4 address that is wrapped in it, is one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _private(host: str, address: IP | str) -> str:
    found = f"host {host!r} is at {address}, which is not a public address"
    return f"{found}; if it is meant, allow it: --allow-private, or documents.allow_private: true"


def _request(httpx: Any, url: str, host: str, address: IP, limits: Limits, wait: Any, clock: _Clock) -> Page | str:
    """One request to one address: the page, or where it redirects to."""
    target = httpx.URL(url)
    headers = {**_HEADERS, "Host": target.netloc.decode("ascii")}
    extensions = {"sni_hostname": target.raw_host.decode("ascii")}  # what the certificate must be for
    trusted = httpx.create_ssl_context() if target.scheme == "https" else False  # or those of SSL_CERT_FILE
    # A client of its own: a kept connection belongs to an address, and two hosts may share one.
    with (
        httpx.Client(verify=trusted, trust_env=False, follow_redirects=False, timeout=wait) as client,
        clock.closing(client),
        client.stream("GET", target.copy_with(host=str(address)), headers=headers, extensions=extensions) as response,
    ):
        _check_peer(response, host, limits)
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return _redirected(url, response.headers["location"])
        if response.status_code != 200:
            raise DocumentError(f"the server answered {response.status_code} {response.reason_phrase}".rstrip())
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > limits.max_bytes:
            raise DocumentError(_too_large(f"{int(declared):,}", limits))
        pieces, size = [], 0
        for piece in _unpacked(response):
            size += len(piece)
            if size > limits.max_bytes:
                raise DocumentError(_too_large(f"more than {limits.max_bytes:,}", limits))
            pieces.append(piece)
            clock.left()
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Page(url, b"".join(pieces), content_type, response.charset_encoding)


def _unpacked(response: Any) -> Iterator[bytes]:
    """The content of a response in pieces. Only what was asked for is unpacked by httpx, and Brotli here, piecewise."""
    packed = response.headers.get("content-encoding", "").strip().lower()
    if packed in ("", "identity", "gzip", "deflate"):
        yield from response.iter_bytes()
        return
    if packed != "br":
        raise DocumentError(f"the server packed the page as {shortened(packed, 40)!r}; expected gzip, deflate or br")
    brotli = library("brotli", "a page that the server packed as br")
    unpacker = brotli.Decompressor()
    try:
        for piece in response.iter_raw():
            yield unpacker.process(piece, output_buffer_limit=_PIECE)
            while not unpacker.can_accept_more_data() and not unpacker.is_finished():
                yield unpacker.process(b"", output_buffer_limit=_PIECE)
    except brotli.error as error:
        raise DocumentError(f"the page is damaged, or not packed as br as the server says ({error})") from None


def _redirected(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise DocumentError(f"it redirects to {shortened(location, 100)!r}, which is no URL ({error})") from None


def _check_peer(response: Any, host: str, limits: Limits) -> None:
    """The address at the other end of the socket, whatever was asked for."""
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    if peer is None:
        raise DocumentError("the address of the server cannot be told, so the page is not read")
    if not limits.allow_private and not is_public(ipaddress.ip_address(str(peer[0]).partition("%")[0])):
        raise DocumentError(_private(host, str(peer[0])))


def _too_large(found: str, limits: Limits) -> str:
    return f"the page has {found} bytes; expected at most {limits.max_bytes:,} (documents.max_bytes)"
