"""Frozen policies. Every number of the package stands here once, with its reason and source."""

import hashlib
import hmac
import math
from typing import Final

import attrs

from veo_async.errors import ConfigurationError

__all__ = ["PollPolicy", "RetryPolicy", "Statistics", "Timeouts"]

BASE_URL: Final = "https://api.kie.ai"  # spec: Endpoint
KEY_VARIABLE: Final = "KIE_API_KEY"
BASE_URL_VARIABLE: Final = "KIE_BASE_URL"
UPLOAD_URL: Final = "https://kieai.redpandaai.co"  # live document 2.1, with the same key

MAX_TASKS: Final = 10  # spec: Concurrent Tasks, per account
PACE: Final = (20, 10.0)  # live document 2.12: 20 creates per 10 s and account
LIMITER_SECONDS: Final = 5.0  # for a shared limiter to take note of a fact; a Redis call needs 1 ms
PROMPT_SECONDS: Final = 0.25  # that a result may wait for its slot to be given back
MAX_DOWNLOADS: Final = 8  # enough for ten slots of 60 s clips at 0.5 MB/s a file, few for a disk

URL_LIFETIME: Final = 20 * 60.0  # spec: Download TTL, seconds since the link was handed out
RESUMED_SECONDS: Final = 120.0  # in which a task of an earlier process has to be heard of, at least
UNKNOWN_ID_GRACE: Final = 90.0  # a fresh id may be unknown to record-info for a while, seconds
SHOWN_OF_KEYS: Final = 8  # hex digits of a submit's key in a log: enough to tell them apart
SHORTEST_POLL: Final = 0.01  # against a very fast simulator, seconds
POLLS_AT_ONCE: Final = 64  # of the pool's 100 connections; the rest is for submits and downloads
POLL_JITTER: Final = 0.1  # a tenth either way keeps tasks submitted together from polling together

MAX_ANSWER_BYTES: Final = 1024 * 1024  # an answer of the API has about 1 KB; more is an attack
MAX_VIDEO_BYTES: Final = 2 * 1024**3  # 100 times the largest clip the service sells
MAX_REDIRECTS: Final = 5  # a storage host needs one
MAX_URL_REFRESHES: Final = 5  # per download; each gives 20 more minutes
MIN_BYTES_PER_SECOND: Final = 32 * 1024  # 3 MB inside a tenth of the 20-minute window
WRITE_BYTES: Final = 1024 * 1024  # a thread hop costs 0.1 to 0.3 ms: fewer, larger writes
# One buffer per download. It may be larger than writes that are gathered first, since nothing is
# copied into it; at 2 MiB it costs more again, and at 1 MiB a fifth more.
DOWNLOAD_BYTES: Final = 1536 * 1024
READ_BYTES: Final = 256 * 1024  # aiohttp buffers twice as much per connection
RECENT_VIDEOS: Final = 1000  # links kept for browsers that ask again, 1 KB each
DISK_THREADS: Final = 2  # aiohttp looks names up in the default pool; disks get one of their own
PROGRESS_BYTES: Final = 16 * 1024  # arrivals that make a failed connection count as progress

MAX_IMAGE_BYTES: Final = 10 * 1024 * 1024  # spec: Specs, 10 MB
UPLOAD_BYTES: Final = 64 * 1024  # what counts as progress: 2 KB/s, inside the usual 30 s
UPLOAD_LIFETIME: Final = 12 * 3600.0  # live document 2.11: 24 hours, and its task may wait first
RECENT_UPLOADS: Final = 10_000  # images whose URLs are kept, 0.5 KB each

RETENTION: Final = 14 * 24 * 3600.0  # spec: Storage Duration, seconds
LOOK_AHEAD: Final = 16  # inputs that a batch pulls at once while they turn out to be done already
UNREAD_ITEMS: Final = 100  # items that may wait for the one who reads a batch before it pauses
DISK_RESERVE: Final = 4 * 1024 * 1024  # free bytes per video on its way, until one was seen
DISK_SECONDS: Final = 5.0  # between two looks at a disk that is full

LEASE_SECONDS: Final = 15.0  # after which a worker that was not heard of is taken for dead
RENEW_SECONDS: Final = 5.0  # between two signs of life: two may be lost
CLAIM_SECONDS: Final = 0.5  # between two looks at a job that another worker has
SERVER_SECONDS: Final = 30.0  # for a journal's server to come back, before anything is paid

CONFIRM_SECONDS: Final = 5.0  # between two questions that callbacks for one task may cause
CALLBACK_TOLERANCE: Final = 300.0  # a signature's time may differ by so much (live 2.9: not told)
CALLBACK_SECONDS: Final = 5.0  # for a callback's body to arrive; the service waits 15 s (live 2.8)
UNCLAIMED_CALLBACKS: Final = 1000  # that may be kept for submits whose answer is still awaited
REPLAYS: Final = 10_000  # signed callbacks that are remembered: a day of an account has 5,000

USER_AGENT: Final = "veo-async"  # the service's edge refuses requests without one (live 2.1)


def _positive(owner: object, field: "attrs.Attribute[float]", value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigurationError(
            f"{type(owner).__name__}.{field.name} is {value!r}; give seconds above 0"
        )


def _not_negative(
    owner: object, field: "attrs.Attribute[float | None]", value: float | None
) -> None:
    if value is not None and not (value >= 0 and math.isfinite(value)):
        raise ConfigurationError(
            f"{type(owner).__name__}.{field.name} is {value!r}; give seconds of 0 or more"
        )


@attrs.frozen(repr=False)
class ApiKey:
    """A key that does not show itself."""

    _value: str

    @property
    def is_there(self) -> bool:
        """Whether there is one at all."""
        return bool(self._value.strip())

    @property
    def is_plausible(self) -> bool:
        """Whether it can be sent in a header."""
        text = self._value.strip()
        return text.isascii() and text.isprintable() and " " not in text

    def bearer(self) -> str:
        """Return the `Authorization` header's value (spec: Authentication)."""
        return f"Bearer {self._value.strip()}"

    def derived(self, label: bytes) -> bytes:
        """Return a secret that everyone with this key can make, and that does not reveal it."""
        return hmac.digest(self._value.strip().encode(), label, hashlib.sha256)

    def __repr__(self) -> str:
        return "ApiKey(…)"


@attrs.frozen
class PollPolicy:
    """When to ask the service whether a task is finished.

    Attributes:
        interval: Seconds between two polls of a task (spec: Integration Notes, 5 s).
        first: Seconds from the submit to the first poll; None means 4 intervals, since no video
            has been seen in less than a minute.
        upgrade_interval: Seconds between two polls of a conversion; None means 4 intervals for
            1080P (live document 2.5: 20 to 30 s) and 6 for 4K (2.6: no faster than 30 s).
        is_adaptive: Whether the requests that are saved before a task can be ready are spent where
            its end is likely, by what this client has seen of tasks of the same model.
    """

    interval: float = attrs.field(default=5.0, validator=_positive)
    first: float | None = attrs.field(default=None, validator=_not_negative)
    upgrade_interval: float | None = attrs.field(default=None, validator=_not_negative)
    is_adaptive: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def adaptive(cls, interval: float = 5.0) -> "PollPolicy":
        """Return a policy that finds the end of a task sooner with no more requests.

        Args:
            interval: Seconds between two polls of a task that it may spend on the average.
        """
        return cls(interval, is_adaptive=True)

    @property
    def first_after(self) -> float:
        """Seconds from the submit to the first poll."""
        return 4 * self.interval if self.first is None else self.first

    @property
    def upgrade_every(self) -> float:
        """Seconds between two polls of a conversion to 1080P."""
        return 4 * self.interval if self.upgrade_interval is None else self.upgrade_interval

    @property
    def upgrade_4k_every(self) -> float:
        """Seconds between two polls of a conversion to 4K."""
        return 6 * self.interval if self.upgrade_interval is None else self.upgrade_interval


def at_speed(speed: float) -> tuple[PollPolicy, tuple[int, float]]:
    """Return the usual poll policy and pace for a service whose time runs so many times faster."""
    creates, seconds = PACE
    return PollPolicy(interval=max(PollPolicy().interval / speed, SHORTEST_POLL)), (
        creates,
        seconds / speed,
    )


@attrs.frozen
class RetryPolicy:
    """How to go on after a failure that may pass.

    The wait doubles from `base` to `cap` with full jitter; a `Retry-After` goes first, up to `cap`.

    Attributes:
        attempts: Tries of one call, the first included.
        base: Seconds that the first wait is drawn from.
        cap: Longest wait in seconds.
        refused_for: Seconds for which one submit goes on after 429 and 455.
    """

    attempts: int = 4
    base: float = attrs.field(default=0.5, validator=_positive)
    cap: float = attrs.field(default=30.0, validator=_positive)
    refused_for: float = attrs.field(default=600.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"RetryPolicy.attempts is {self.attempts}; give 1 or more")


@attrs.frozen
class Timeouts:
    """How long to wait for what, in seconds.

    Attributes:
        connect: Opening a connection.
        response: One API call, from its start to the last byte of its answer.
        stall: A download that stays under 32 KiB/s for so long is cut and resumed; an upload of
            which less than 64 KiB leave in it is cut, and sent again where that is possible.
        task: Longest plausible age of a task; then `TaskTimeoutError`, and its slot is free.
        uncertain: How long a submit whose answer was lost keeps its slot.
        close: How long `aclose()` waits for submits on the wire.
    """

    connect: float = attrs.field(default=10.0, validator=_positive)
    response: float = attrs.field(default=60.0, validator=_positive)
    stall: float = attrs.field(default=30.0, validator=_positive)
    task: float = attrs.field(default=1800.0, validator=_positive)
    uncertain: float = attrs.field(default=600.0, validator=_positive)
    close: float = attrs.field(default=10.0, validator=_positive)

    @property
    def lost(self) -> float:
        """Seconds from the departure of a submit without an answer to the end of its slot."""
        return self.response + self.uncertain


@attrs.frozen(kw_only=True)
class Statistics:
    """What a client is doing at one moment.

    Attributes:
        slots_total: Tasks that may run at once.
        slots_in_use: Slots reserved or occupied; more than the total after tasks were adopted.
        slots_waiting: Submits waiting for a slot.
        tasks_watched: Tasks that are being polled.
        downloads_active: Files being fetched.
        downloads_waiting: Files waiting for their turn.
        requests: Requests sent, uploads and downloads included.
        retries: Requests repeated after a failure.
        bytes_downloaded: Bytes of videos that arrived.
    """

    slots_total: int
    slots_in_use: int
    slots_waiting: int
    tasks_watched: int = 0
    downloads_active: int = 0
    downloads_waiting: int = 0
    requests: int = 0
    retries: int = 0
    bytes_downloaded: int = 0
