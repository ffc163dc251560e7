"""The one error tree. The class says what to do next, the attributes say what happened.

Every message ends with the next step. Errors are built from keyword attributes that all have
defaults, so that they survive `pickle` and `copy` on their way between processes.
"""

__all__ = [
    "APIError",
    "AuthenticationError",
    "BudgetExceededError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ContentChangedError",
    "DownloadError",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JournalError",
    "LimiterError",
    "NotAnMP4Error",
    "NotFoundError",
    "QuotaExceededError",
    "RateLimitError",
    "ServerError",
    "ServiceUnavailableError",
    "SignatureError",
    "SubmitUncertainError",
    "TaskError",
    "TaskFailedError",
    "TaskTimeoutError",
    "TransportError",
    "TransportTimeoutError",
    "TruncatedError",
    "URLExpiredError",
    "UnexpectedResponseError",
    "ValidationError",
    "VeoError",
    "WebhookError",
    "WrongLoopError",
]


class VeoError(Exception):
    """The root of everything this package raises.

    Attributes:
        request_id: What names the failed request in this process's log lines and events; None where
            no request to the API failed.
    """

    request_id: str | None = None


class ConfigurationError(VeoError, ValueError):
    """A setting is missing or impossible. Correct it and make the client again."""


class WrongLoopError(VeoError):
    """A client was used from another event loop or process than the one it belongs to."""


class ClientClosedError(VeoError):
    """The client was closed while, or before, it was asked for something."""

    def __init__(self, message: str = "", *, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class InvalidRequestError(VeoError, ValueError):
    """A value breaks the service's rules. Nothing was sent and nothing was spent.

    Attributes:
        field: Name of the offending field, as Python spells it.
    """

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class BudgetExceededError(VeoError):
    """The next video would cost more than `max_credits` leaves. Nothing was sent.

    Attributes:
        needed: Credits that the refused video is expected to cost.
        left: Credits that the budget still holds.
    """

    def __init__(self, message: str = "", *, needed: int = 0, left: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.left = left


class JournalError(VeoError):
    """The journal of a batch cannot be used, and nothing more is submitted without it.

    Attributes:
        path: The journal's file.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class LimiterError(VeoError):
    """The shared slots cannot be counted just now, so nothing may be submitted."""


class APIError(VeoError):
    """The service answered, and the answer was no.

    Attributes:
        code: The verdict: the HTTP status from 400 up, else the envelope's `code`.
        http_status: The HTTP status of the answer. The live service often says 200 here.
        message: The service's own words.
        task_id: The task that was asked about, if any.
        retry_after: Seconds that the service asked to wait, if it said so.
    """

    def __init__(
        self,
        text: str = "",
        *,
        message: str = "",
        code: int = 0,
        http_status: int = 0,
        task_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.message = message
        self.code = code
        self.http_status = http_status
        self.task_id = task_id
        self.retry_after = retry_after


class AuthenticationError(APIError):
    """401: the key is wrong, revoked or not allowed here. Correct the key."""


class InsufficientCreditsError(APIError):
    """402: the account's balance is too low. Top up and go on."""


class NotFoundError(APIError):
    """404, or the live service's 422 `record is null`: no such task at this service."""


class ValidationError(APIError):
    """422 and other refusals of the request's content. Change the request."""


class RateLimitError(APIError):
    """429: too many requests or too many running tasks. Wait `retry_after` and try again."""


class QuotaExceededError(APIError):
    """433: a credit cap set on this key is used up. Raise the cap or wait for its period to end."""


class ServiceUnavailableError(APIError):
    """455: maintenance. Try again in some minutes."""


class ServerError(APIError):
    """5xx and 408: the service failed. Reads may be repeated; a create may not."""


class UnexpectedResponseError(APIError):
    """Something answered that is not the service's envelope: a proxy, a page, a redirect."""


class TransportError(VeoError):
    """The connection failed.

    Attributes:
        request_sent: Whether any byte of the request may have reached the other side.
    """

    def __init__(self, message: str = "", *, request_sent: bool = False) -> None:
        super().__init__(message)
        self.request_sent = request_sent


class ConnectError(TransportError):
    """No connection could be opened, so nothing was sent."""


class TransportTimeoutError(TransportError):
    """No answer came in time."""


class SubmitUncertainError(VeoError):
    """The answer to a paid submit was lost: a task may exist and may be charged.

    It is never sent again by this package, because the service has no idempotency key. Look at the
    account's log on the service's site before paying again.

    Attributes:
        key: The random token that names this submit in events and in the callback URL.
        prompt: The prompt that was sent.
    """

    def __init__(self, message: str = "", *, key: str = "", prompt: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.prompt = prompt


class TaskError(VeoError):
    """A task ended without a video, or was given up.

    Attributes:
        task_id: The service's id of the task.
    """

    def __init__(self, message: str = "", *, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskFailedError(TaskError):
    """The service says that the generation failed.

    Attributes:
        code: The task's `errorCode`, if the service gave one.
        reason: The service's own words.
        is_retryable: Whether the same request may succeed as a new, paid task.
    """

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str = "",
        code: int | None = None,
        reason: str = "",
        is_retryable: bool = False,
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.code = code
        self.reason = reason
        self.is_retryable = is_retryable


class TaskTimeoutError(TaskError):
    """The task was not finished in time. It may still be running at the service."""


class DownloadError(VeoError):
    """The video did not reach its place. No file stands under the final name."""


class URLExpiredError(DownloadError):
    """The download URL expired and no working one could be had."""


class ContentChangedError(DownloadError):
    """The file at the storage host changed while it was being fetched."""


class TruncatedError(DownloadError):
    """The transfer ended before the whole file had arrived."""


class NotAnMP4Error(DownloadError):
    """What arrived is not a whole MP4 file."""


class WebhookError(VeoError):
    """A callback was refused. Answer it with `status`; nothing was believed of it.

    Attributes:
        status: The HTTP status to answer with: 400 for what is no callback, 413, 415, 404 for one
            that nobody waits for, 503 for one that could not be kept and should be sent again.
    """

    def __init__(self, message: str = "", *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class SignatureError(WebhookError):
    """A callback is not signed, wrongly signed, or was signed too long ago. Answer 401."""

    def __init__(self, message: str = "", *, status: int = 401) -> None:
        super().__init__(message, status=status)
