"""Asyncio-native SDK for KIE.ai's Veo 3.1 video API: prompt in, whole MP4 on disk, paid once."""

from importlib import import_module
from typing import TYPE_CHECKING

from veo_async._version import __version__

if TYPE_CHECKING:
    from veo_async.batch import Batch
    from veo_async.client import VeoClient
    from veo_async.errors import (
        APIError,
        AuthenticationError,
        BudgetExceededError,
        ClientClosedError,
        ConfigurationError,
        ConnectError,
        ContentChangedError,
        DownloadError,
        InsufficientCreditsError,
        InvalidRequestError,
        JournalError,
        LimiterError,
        NotAnMP4Error,
        NotFoundError,
        QuotaExceededError,
        RateLimitError,
        ServerError,
        ServiceUnavailableError,
        SignatureError,
        SubmitUncertainError,
        TaskError,
        TaskFailedError,
        TaskTimeoutError,
        TransportError,
        TransportTimeoutError,
        TruncatedError,
        UnexpectedResponseError,
        URLExpiredError,
        ValidationError,
        VeoError,
        WebhookError,
        WrongLoopError,
    )
    from veo_async.events import (
        CallbackReceived,
        ClientClosed,
        ClientStarted,
        DownloadFailed,
        DownloadFinished,
        DownloadProgress,
        DownloadStarted,
        Event,
        LimiterLost,
        LimiterRestored,
        Observer,
        RequestFinished,
        RetryScheduled,
        SubmitFailed,
        SubmitQueued,
        SubmitsPaused,
        SubmitsResumed,
        SubmitStarted,
        SubmitWithdrawn,
        TaskEnded,
        TaskSubmitted,
        TaskUpdated,
    )
    from veo_async.inbox import FileInbox, Inbox
    from veo_async.integrations.opentelemetry import OpenTelemetryObserver
    from veo_async.integrations.postgres import PostgresJournal
    from veo_async.integrations.processes import FileLimiter
    from veo_async.integrations.redis import RedisLimiter
    from veo_async.integrations.redis_inbox import RedisInbox
    from veo_async.limits import (
        LimiterMember,
        LimiterStatistics,
        LocalLimiter,
        SharedTaskLimiter,
        TaskLimiter,
    )
    from veo_async.models import (
        JSON,
        AspectRatio,
        Dialect,
        Download,
        GenerationType,
        JSONObject,
        Model,
        Resolution,
        TaskRecord,
        TaskStatus,
        Video,
    )
    from veo_async.prices import Prices
    from veo_async.protocol.callbacks import Callback
    from veo_async.request import (
        ExtendFields,
        ExtendRequest,
        PaidRequest,
        RequestFields,
        VideoRequest,
    )
    from veo_async.results import BatchInput, BatchItem, BatchReport, JobResult, Outcome
    from veo_async.settings import PollPolicy, RetryPolicy, Statistics, Timeouts
    from veo_async.streaming import VideoStream
    from veo_async.task import VideoTask
    from veo_async.webhooks import WebhookReceiver

# Where the public names live, light modules first: a name is looked for in this order.
_HOMES = (
    "errors",
    "models",
    "request",
    "settings",
    "prices",
    "client",
    "results",
    "events",
    "limits",
    "protocol.callbacks",
    "task",
    "inbox",
    "webhooks",
    "streaming",
    "batch",
    "integrations.processes",
    "integrations.redis",
    "integrations.redis_inbox",
    "integrations.opentelemetry",
    "integrations.postgres",
)

__all__ = [
    "JSON",
    "APIError",
    "AspectRatio",
    "AuthenticationError",
    "Batch",
    "BatchInput",
    "BatchItem",
    "BatchReport",
    "BudgetExceededError",
    "Callback",
    "CallbackReceived",
    "ClientClosed",
    "ClientClosedError",
    "ClientStarted",
    "ConfigurationError",
    "ConnectError",
    "ContentChangedError",
    "Dialect",
    "Download",
    "DownloadError",
    "DownloadFailed",
    "DownloadFinished",
    "DownloadProgress",
    "DownloadStarted",
    "Event",
    "ExtendFields",
    "ExtendRequest",
    "FileInbox",
    "FileLimiter",
    "GenerationType",
    "Inbox",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JSONObject",
    "JobResult",
    "JournalError",
    "LimiterError",
    "LimiterLost",
    "LimiterMember",
    "LimiterRestored",
    "LimiterStatistics",
    "LocalLimiter",
    "Model",
    "NotAnMP4Error",
    "NotFoundError",
    "Observer",
    "OpenTelemetryObserver",
    "Outcome",
    "PaidRequest",
    "PollPolicy",
    "PostgresJournal",
    "Prices",
    "QuotaExceededError",
    "RateLimitError",
    "RedisInbox",
    "RedisLimiter",
    "RequestFields",
    "RequestFinished",
    "Resolution",
    "RetryPolicy",
    "RetryScheduled",
    "ServerError",
    "ServiceUnavailableError",
    "SharedTaskLimiter",
    "SignatureError",
    "Statistics",
    "SubmitFailed",
    "SubmitQueued",
    "SubmitStarted",
    "SubmitUncertainError",
    "SubmitWithdrawn",
    "SubmitsPaused",
    "SubmitsResumed",
    "TaskEnded",
    "TaskError",
    "TaskFailedError",
    "TaskLimiter",
    "TaskRecord",
    "TaskStatus",
    "TaskSubmitted",
    "TaskTimeoutError",
    "TaskUpdated",
    "Timeouts",
    "TransportError",
    "TransportTimeoutError",
    "TruncatedError",
    "URLExpiredError",
    "UnexpectedResponseError",
    "ValidationError",
    "VeoClient",
    "VeoError",
    "Video",
    "VideoRequest",
    "VideoStream",
    "VideoTask",
    "WebhookError",
    "WebhookReceiver",
    "WrongLoopError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load the module of a public name on its first use (PEP 562)."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in module.__all__:
                value: object = getattr(module, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
