"""The file host's rules: which URLs are good, and which bytes a request gets.

Knows no sockets; `files.py` puts it on the network.
"""

import re
from collections.abc import Mapping
from enum import Enum
from hmac import compare_digest
from math import ceil
from urllib.parse import urlencode

import attrs

from veo_async.simulator.dice import digest
from veo_async.simulator.records import Footage


class Verdict(Enum):
    """What the file host says to a URL before it looks for bytes."""

    GOOD = "good"
    EXPIRED = "expired"
    FORGED = "forged"
    UNKNOWN = "unknown"


@attrs.define
class StoredFile:
    """A file of the service.

    Attributes:
        path: Path on the file host.
        task_id: The task it belongs to.
        prompt: That task's prompt.
        footage: What is in it.
        ready: Service seconds from which it exists.
        revision: Counts changes of the content (only faults make any).
        minted: When the URL handed out last was made, in service seconds.
        serial: That URL's number.
        first_good: URLs with a lower number were revoked; a link without a signature has 0.
    """

    path: str
    task_id: str
    prompt: str
    footage: Footage
    ready: float
    revision: int = 0
    minted: float | None = None
    serial: int = 0
    first_good: int = 0


class Storage:
    """All files, and the URLs that open them.

    One with a signature does for a while, a plain one, where there are such, as long as the file
    is kept.

    Attributes:
        base_url: Origin of the file host; set once its port is known.
    """

    def __init__(
        self, *, secret: str, epoch: float, ttl: float, retention: float, has_plain_urls: bool
    ) -> None:
        self.base_url = ""
        self._secret = secret
        self._epoch = epoch
        self._ttl = ttl
        self._retention = retention
        self._has_plain_urls = has_plain_urls
        self._files: dict[str, StoredFile] = {}

    def add(self, file: StoredFile) -> None:
        """Take in a file; its URLs work from its `ready` on."""
        self._files[file.path] = file

    def get(self, path: str) -> StoredFile | None:
        """Return the file at `path`."""
        return self._files.get(path)

    def url(self, path: str, now: float, *, fresh: bool = False) -> str:
        """Return a URL of the file at `path`: the plain one, or one with half its life left.

        Args:
            path: Path of a file that was added.
            now: Service seconds.
            fresh: Make a new one with a signature, whatever was handed out before.
        """
        if self._has_plain_urls and not fresh:
            return f"{self.base_url}{path}"
        file = self._files[path]
        if fresh or file.minted is None or now > file.minted + self._ttl / 2:
            file.minted = now
            file.serial += 1
        expires = ceil(self._epoch + file.minted + self._ttl)
        query = {"expires": expires, "serial": file.serial}
        signature = self._sign(path, str(expires), str(file.serial))
        return f"{self.base_url}{path}?{urlencode(query)}&signature={signature}"

    def revoke(self, path: str) -> None:
        """Make every URL of `path` handed out so far invalid."""
        file = self._files[path]
        file.minted = None
        file.first_good = file.serial + 1

    def judge(self, path: str, query: Mapping[str, str], now: float) -> Verdict:
        """Decide about a request for `path` at `now` (spec: Download TTL, Storage Duration)."""
        file = self._files.get(path)
        if file is None or not file.ready <= now < file.ready + self._retention:
            return Verdict.UNKNOWN
        if self._has_plain_urls and not query:
            return Verdict.EXPIRED if file.first_good else Verdict.GOOD
        expires, serial = query.get("expires", ""), query.get("serial", "")
        wanted = self._sign(path, expires, serial)
        if not compare_digest(query.get("signature", "").encode(), wanted.encode()):
            return Verdict.FORGED
        if int(serial) < file.first_good or self._epoch + now > int(expires):
            return Verdict.EXPIRED
        return Verdict.GOOD

    def _sign(self, path: str, expires: str, serial: str) -> str:
        return digest("url", self._secret, path, expires, serial)[:32]


@attrs.frozen
class Slice:
    """Bytes to send: `start` up to, not including, `stop`, under `status` (200, 206, 304, 416)."""

    status: int
    start: int
    stop: int


_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})[ \t]*", re.ASCII)


def choose(headers: Mapping[str, str], *, size: int, etag: str | None, last_modified: str) -> Slice:
    """Decide which bytes a GET gets (RFC 9110, sections 13 and 14).

    A range of several parts or of bad syntax is ignored, as the RFC allows: the whole file comes.

    Args:
        headers: Request headers, looked up without regard to case.
        size: Bytes of the file.
        etag: The entity tag as sent, with its quotes, or None when none is sent.
        last_modified: The Last-Modified date as sent.
    """
    whole = Slice(200, 0, size)
    if _is_known(headers.get("If-None-Match"), etag):
        return Slice(304, 0, 0)
    wanted = headers.get("Range")
    if wanted is None or not _may_continue(headers.get("If-Range"), etag, last_modified):
        return whole
    match = _RANGE.fullmatch(wanted.strip())
    part = None if match is None else _part(match.group(1), match.group(2), size)
    return part or whole


def _part(first: str, last: str, size: int) -> Slice | None:
    """Return the one range asked for, None where the syntax is bad."""
    if not first:
        return _suffix(int(last), size) if last else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return Slice(416, 0, 0)
    return Slice(206, int(first), min(int(last) + 1, size) if last else size)


def _suffix(length: int, size: int) -> Slice:
    if length == 0 or size == 0:
        return Slice(416, 0, 0)
    return Slice(206, max(0, size - length), size)


def _is_known(condition: str | None, etag: str | None) -> bool:
    """If-None-Match compares weakly (RFC 9110, 13.1.2)."""
    if condition is None or etag is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in known or etag.removeprefix("W/") in known


def _may_continue(condition: str | None, etag: str | None, last_modified: str) -> bool:
    """If-Range compares strongly: a weak tag matches nothing, a date only itself (13.1.5)."""
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith('"'):
        return condition == etag
    return condition == last_modified
