"""Asyncio-native SDK for KIE.ai's Veo 3.1 video API: prompt in, whole MP4 on disk, paid once."""

from importlib import import_module
from typing import TYPE_CHECKING

from veo_async._version import __version__

if TYPE_CHECKING:
    from veo_async.batch import Batch
    from veo_async.client import VeoClient
    from veo_async.download import VideoStream
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
        WrongLoopError,
    )
    from veo_async.events import (
        DownloadFinished,
        DownloadProgress,
        DownloadStarted,
        Event,
        Observer,
        RetryScheduled,
        SubmitFailed,
        SubmitsPaused,
        SubmitsResumed,
        SubmitStarted,
        TaskSubmitted,
        TaskUpdated,
    )
    from veo_async.limits import LimiterStatistics, LocalLimiter, TaskLimiter
    from veo_async.models import (
        JSON,
        AspectRatio,
        Download,
        GenerationType,
        JSONObject,
        Model,
        RequestFields,
        Resolution,
        TaskRecord,
        TaskStatus,
        Video,
        VideoRequest,
    )
    from veo_async.prices import Prices
    from veo_async.results import BatchInput, BatchItem, BatchReport, Outcome
    from veo_async.settings import PollPolicy, RetryPolicy, Statistics, Timeouts
    from veo_async.task import VideoTask

# Where the public names live, light modules first: a name is looked for in this order.
_HOMES = (
    "errors",
    "models",
    "settings",
    "results",
    "prices",
    "events",
    "limits",
    "task",
    "client",
    "download",
    "batch",
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
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ContentChangedError",
    "Download",
    "DownloadError",
    "DownloadFinished",
    "DownloadProgress",
    "DownloadStarted",
    "Event",
    "GenerationType",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JSONObject",
    "JournalError",
    "LimiterError",
    "LimiterStatistics",
    "LocalLimiter",
    "Model",
    "NotAnMP4Error",
    "NotFoundError",
    "Observer",
    "Outcome",
    "PollPolicy",
    "Prices",
    "QuotaExceededError",
    "RateLimitError",
    "RequestFields",
    "Resolution",
    "RetryPolicy",
    "RetryScheduled",
    "ServerError",
    "ServiceUnavailableError",
    "Statistics",
    "SubmitFailed",
    "SubmitStarted",
    "SubmitUncertainError",
    "SubmitsPaused",
    "SubmitsResumed",
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
