"""An upload as bytes, and its answer as a URL (live document 2.11)."""

from typing import Final
from urllib.parse import quote

import attrs

from veo_async.errors import APIError, NotFoundError, UnexpectedResponseError, ValidationError
from veo_async.protocol import reading
from veo_async.protocol.envelope import Envelope, error_of, read_envelope
from veo_async.protocol.http import HttpRequest, HttpResponse
from veo_async.request import is_http_url

__all__: list[str] = []

STREAM_PATH: Final = "/api/file-stream-upload"
URL_PATH: Final = "/api/file-url-upload"
FOLDER: Final = "veo-async"  # at the service; without slashes at its ends

_OK: Final = 200
_NO_SUCH_CALL: Final = frozenset({404, 405})
_TOO_LARGE: Final = 413  # of something in front of the service, which tells no maximum
# The reference page's name first, then the quickstart's.
_URL: Final[tuple[tuple[str, ...], ...]] = (("downloadUrl",), ("fileUrl",))
_IN_URLS: Final = ":/?#[]@!$&'()*+,;=%~"  # RFC 3986, 2.2; a name's blanks and umlauts are quoted
# WHATWG HTML, multipart/form-data encoding algorithm.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@attrs.frozen
class Form:
    """What stands around the bytes of a file in a `multipart/form-data` body (RFC 7578).

    Attributes:
        content_type: Of the whole body.
        head: Before the file's bytes.
        tail: After them.
    """

    content_type: str
    head: bytes
    tail: bytes


def form_of(name: str, content_type: str, boundary: str) -> Form:
    """Return the form that sends a file.

    Args:
        name: What it is to be called at the service.
        content_type: Of the file.
        boundary: What does not occur in the file: many random letters.
    """
    # The fields stand first, so that a service can know where the bytes go before it has them.
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in (("uploadPath", FOLDER), ("fileName", name))
    )
    quoted = name.translate(_ESCAPES)
    file = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    return Form(
        content_type=f"multipart/form-data; boundary={boundary}",
        head=(fields + file).encode(),
        tail=f"\r\n--{boundary}--\r\n".encode(),
    )


def encode_stream_upload(host: str) -> HttpRequest:
    """Return the call that a form goes with, at the upload host."""
    return HttpRequest(method="POST", path=STREAM_PATH, base_url=host)


def encode_url_upload(host: str, url: str, name: str) -> HttpRequest:
    """Return the call that has the service fetch a file by itself."""
    return HttpRequest(
        method="POST",
        path=URL_PATH,
        base_url=host,
        body={"fileUrl": url, "uploadPath": FOLDER, "fileName": name},
    )


def read_upload(response: HttpResponse) -> str:
    """Return the public URL of what was uploaded.

    Raises:
        APIError: The service refused, has no uploads, or answered with something else.
    """
    envelope = read_envelope(response)
    if envelope.code in _NO_SUCH_CALL:
        raise _error(
            NotFoundError,
            envelope,
            "it has no uploads; name the host that has them with VeoClient(upload_url=…), or give"
            " images as public URLs",
        )
    if envelope.code == _TOO_LARGE:
        raise _error(ValidationError, envelope, "upload a smaller file")
    if envelope.code != _OK:
        raise error_of(envelope)
    told = reading.as_text(reading.find(reading.as_object(envelope.data), _URL))
    url = None if told is None else quote(told.strip(), safe=_IN_URLS, errors="replace")
    if url is None or not is_http_url(url):
        raise _error(
            UnexpectedResponseError,
            envelope,
            "it named no URL of the file; check upload_url and any proxy in between",
        )
    return url


def _error(kind: type[APIError], envelope: Envelope, remedy: str) -> APIError:
    status = f", HTTP {envelope.http_status}" if envelope.http_status != envelope.code else ""
    return kind(
        f"the service answered {envelope.code}{status} to an upload:"
        f" {envelope.message.rstrip('.')}; {remedy}",
        message=envelope.message,
        code=envelope.code,
        http_status=envelope.http_status,
        retry_after=envelope.retry_after,
    )
