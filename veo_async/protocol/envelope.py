"""What every answer is wrapped in, and the one exact error that it stands for.

Errors come in three layers, read in this order: the HTTP status, the envelope's `code`, and the
flags of the task itself (live document, section 4).
"""

from collections.abc import Mapping
from typing import Final

import attrs

from veo_async.errors import (
    APIError,
    AuthenticationError,
    InsufficientCreditsError,
    NotFoundError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    UnexpectedResponseError,
    ValidationError,
)
from veo_async.models import JSON, JSONObject
from veo_async.protocol import dialect, reading, remedies
from veo_async.protocol.http import HttpResponse

__all__: list[str] = []

OK: Final = 200
LONGEST_WORDS: Final = 1000
_FORBIDDEN: Final = 403  # without an envelope the edge's own, live document 2.1
_FIRST_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500
_LONGEST_QUOTE: Final = 200  # of a body that is not the service's
_BETWEEN: Final = "check the base URL and any proxy in between"

# Code → class and what to do next, where `remedies` does not know better. Codes not listed fall to
# their hundred.
_ERRORS: Final[Mapping[int, tuple[type[APIError], str]]] = {
    401: (AuthenticationError, "check the key, at https://kie.ai/api-key, and where it is set"),
    402: (InsufficientCreditsError, "top up the account and submit again"),
    403: (AuthenticationError, "check what the key may do and from which addresses"),
    404: (NotFoundError, "check the task id and the base URL"),
    408: (ServerError, "ask again later"),
    422: (ValidationError, "change the request as it says"),
    429: (RateLimitError, "wait and try again"),
    433: (QuotaExceededError, "raise the key's cap in the account's settings, or wait"),
    451: (ValidationError, "make the image's URL public"),
    455: (ServiceUnavailableError, "try again in some minutes"),
}


@attrs.frozen
class Envelope:
    """What every answer is wrapped in (spec: Response).

    Attributes:
        http_status: The HTTP status.
        code: The verdict: `code` where the HTTP status is below 400, else the HTTP status.
        message: The service's words, as one line.
        data: The content.
        retry_after: Seconds that the service asked to wait.
        is_envelope: Whether the body was an envelope at all.
        is_page: Whether it was not even a JSON object, but a page of something in between.
    """

    http_status: int
    code: int
    message: str
    data: JSON
    retry_after: float | None
    is_envelope: bool
    is_page: bool

    @property
    def is_success(self) -> bool:
        """Whether the service says that all went well."""
        return self.code == OK and self.is_envelope


def read_envelope(response: HttpResponse) -> Envelope:
    """Read an answer's envelope; a body that is none keeps its HTTP status as the verdict."""
    body = reading.parse(response.body)
    fields: JSONObject = body if isinstance(body, dict) else {}
    code = reading.as_int(fields.get("code"))
    verdict = response.status
    if code is not None and response.status < _FIRST_ERROR:
        verdict = code
    return Envelope(
        http_status=response.status,
        code=verdict,
        message=_words(fields, response.body),
        data=fields.get("data"),
        retry_after=response.retry_after,
        is_envelope=code is not None,
        is_page=not isinstance(body, dict),
    )


def _words(fields: JSONObject, body: bytes) -> str:
    for name in ("msg", "message", "error"):
        words = reading.as_line(fields.get(name), LONGEST_WORDS)
        if words is not None:
            return words
    return quoted(body)


def quoted(body: bytes) -> str:
    """Return the beginning of a body, as people may see it."""
    text = body[: 4 * _LONGEST_QUOTE].decode(errors="replace")
    return reading.as_line(text, _LONGEST_QUOTE) or "an empty body"


def says(envelope: Envelope, words: tuple[str, ...]) -> bool:
    """Return whether the service says one of these, beside a code that has several meanings."""
    message = envelope.message.lower()
    counts = envelope.is_envelope and envelope.code in dialect.WORDED_CODES
    return counts and any(part in message for part in words)


def refuses(envelope: Envelope) -> bool:
    """Return whether the service says, in its own words, that a task ends for a known reason."""
    return envelope.is_envelope and remedies.is_refusal(envelope.code, envelope.message)


def error_of(envelope: Envelope, task_id: str | None = None) -> APIError:
    """Return the error that an answer other than success stands for."""
    kind, usual = _kind_of(envelope)
    better = remedies.step_after(envelope.code, envelope.message, is_enveloped=envelope.is_envelope)
    about = f" (task {task_id})" if task_id else ""
    status = f", HTTP {envelope.http_status}" if envelope.http_status != envelope.code else ""
    text = (
        f"the service answered {envelope.code}{status}{about}: {envelope.message.rstrip('.')};"
        f" {better or usual}"
    )
    return error(kind, text, envelope, task_id)


def unexpected(envelope: Envelope, what: str, task_id: str | None = None) -> APIError:
    """Return the error for what no documented service says."""
    return error(UnexpectedResponseError, f"{what}; {_BETWEEN}", envelope, task_id)


def error(kind: type[APIError], text: str, envelope: Envelope, task_id: str | None) -> APIError:
    """Return an error that says what was answered."""
    return kind(
        text,
        message=envelope.message,
        code=envelope.code,
        http_status=envelope.http_status,
        task_id=task_id,
        retry_after=envelope.retry_after,
    )


def _kind_of(envelope: Envelope) -> tuple[type[APIError], str]:
    if says(envelope, dialect.UNKNOWN_TASK_WORDS):
        return NotFoundError, "check the task id; records are kept for 14 days"
    if envelope.code in _ERRORS and (envelope.is_envelope or envelope.code != _FORBIDDEN):
        return _ERRORS[envelope.code]
    if envelope.code >= _FIRST_SERVER_ERROR:
        return ServerError, "try again later"
    if envelope.code >= _FIRST_ERROR and envelope.is_envelope:
        return ValidationError, "change the request as it says"
    return UnexpectedResponseError, _BETWEEN


def no_such_call(refusal: APIError, what: str, remedy: str) -> NotFoundError:
    """Return the error for a call that a service does not have, rather than a task.

    Args:
        refusal: The 404.
        what: What the call is for.
        remedy: What to do instead.
    """
    told = NotFoundError(
        f"this service has no call for {what} (it answered {refusal.code}); {remedy}",
        message=refusal.message,
        code=refusal.code,
        http_status=refusal.http_status,
        task_id=refusal.task_id,
    )
    told.request_id = refusal.request_id
    return told
