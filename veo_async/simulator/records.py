"""Values that pass between the parts of the simulator."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import cast, overload

import attrs


class Dialect(StrEnum):
    """Which description of the service is spoken.

    ``jobs`` is the live service once its older endpoints are gone (live document 2.13).
    """

    SPEC = "spec"
    LIVE = "live"
    JOBS = "jobs"


class Kind(StrEnum):
    """What a task or a payment is for."""

    GENERATE = "generate"
    EXTEND = "extend"
    UPGRADE = "1080p"
    UPGRADE_4K = "4k"

    @property
    def is_conversion(self) -> bool:
        """True for what makes another file of a video there is."""
        return self in {Kind.UPGRADE, Kind.UPGRADE_4K}


class Endpoint(StrEnum):
    """The calls that are counted and that a fault can aim at."""

    GENERATE = "generate"
    EXTEND = "extend"
    RECORD_INFO = "record-info"
    UPGRADE = "1080p"
    UPGRADE_4K = "4k"
    CREDIT = "credit"
    DOWNLOAD_URL = "download-url"
    UPLOAD = "upload"
    VIDEO = "video"
    WEBHOOK = "webhook"
    OTHER = "other"


class State(IntEnum):
    """Life of a task (spec: Status Codes; 3 is the live document's, section 2.4)."""

    GENERATING = 0
    SUCCESS = 1
    FAILED = 2
    FAILED_UPSTREAM = 3


@attrs.frozen(kw_only=True)
class Order:
    """A create request that passed validation.

    Attributes:
        ratio: What was asked for: ``16:9``, ``9:16`` or ``Auto``.
        seed: None when the service is to draw one.
        duration: Seconds.
        named: Request fields that were given, for the live echo (``paramJson``).
        kind: What it is for.
        base_id: The task whose video is extended or converted.
        is_fallback: Whether the fallback model makes it (live document 2.2: needs 16:9).
        sent: The body of ``/api/v1/jobs/createTask``, as records repeat it; None where a call of
            ``/api/v1/veo`` made the task.
    """

    prompt: str
    model: str
    generation_type: str
    image_urls: tuple[str, ...]
    ratio: str
    seed: int | None
    callback_url: str | None
    enable_translation: bool
    watermark: str | None
    resolution: str
    duration: int
    named: frozenset[str]
    kind: Kind = Kind.GENERATE
    base_id: str | None = None
    is_fallback: bool = False
    sent: str | None = None

    @property
    def made_at(self) -> str:
        """Resolution of the file: the fallback model makes 1080p (live document 2.2)."""
        return "1080p" if self.is_fallback and self.resolution == "720p" else self.resolution

    @property
    def shape(self) -> str:
        """``Auto`` settled: there is no real image to measure here, so it means 16:9."""
        return "9:16" if self.ratio == "9:16" else "16:9"


@attrs.frozen
class Failure:
    """Why a generation fails: the live code and text, and which of 2 and 3 is shown."""

    code: int
    text: str
    state: State = State.FAILED_UPSTREAM


@attrs.frozen(kw_only=True)
class TaskView:
    """A task as one answer shows it. Dates are epoch seconds of service time.

    Attributes:
        progress: Percent of the way there.
        now: When the answer is given.
        whole_url: The film with everything before an extension.
        image_url: The still of a 4K conversion.
    """

    task_id: str
    order: Order
    state: State
    seed: int
    resolution: str
    created: float
    completed: float | None
    url: str | None
    origin_url: str | None
    failure: Failure | None
    credits: int
    now: float = 0.0
    progress: int = 0
    whole_url: str | None = None
    image_url: str | None = None


@attrs.frozen
class Reply:
    """An answer of the API: the envelope and the HTTP status around it."""

    body: Mapping[str, object]
    http: int = 200
    retry_after: float | None = None

    @property
    def code(self) -> int:
        """The envelope's code."""
        code = self.body["code"]
        return code if isinstance(code, int) else 0

    @property
    def task_id(self) -> str | None:
        """The id in the answer to a create."""
        data = self.body.get("data")
        return str(cast("Mapping[str, object]", data)["taskId"]) if data else None


@attrs.frozen(kw_only=True)
class Callback:
    """A webhook that is due: where to, for which task, with which body."""

    url: str
    task_id: str
    prompt: str
    body: Mapping[str, object]


@attrs.frozen
class Footage:
    """What to render: a film, or a still where `seconds` is 0. Equal values are equal bytes."""

    width: int
    height: int
    seconds: float
    seed: int
    size: int | None


@attrs.frozen(kw_only=True)
class Charge:
    """One payment.

    Attributes:
        task_id: The task that was paid for.
        kind: ``generate``, ``extend``, ``1080p``, ``4k``.
        credits: Price.
        prompt: The task's prompt.
        model: The task's model.
        at: Service seconds.
        refunded: True once the task has failed: failures are not charged (live document 2.12).
    """

    task_id: str
    kind: str
    credits: int
    prompt: str
    model: str
    at: float
    refunded: bool = False


@attrs.frozen(kw_only=True)
class Post:
    """One create request that arrived whole.

    Attributes:
        at: Service seconds.
        outcome: ``accepted``, ``refused``, or ``unread`` when a fault got in before the service.
        code: The envelope's code as the service meant it; None for ``unread``.
        task_id: The task that was made, if one was.
        prompt: The prompt, as far as the body had one.
        fault: The scripted fault that spoiled the exchange, in its text form.
        kind: ``generate`` or ``extend``; of ``/api/v1/jobs/createTask`` also ``1080p``, ``4k``.
    """

    at: float
    outcome: str
    code: int | None
    task_id: str | None
    prompt: str | None
    fault: str | None = None
    kind: str = "generate"


@attrs.frozen(kw_only=True)
class Leak:
    """Something private seen where it does not belong.

    Attributes:
        what: ``authorization`` (such a header), ``key`` (the key anywhere else in the request),
            or ``body`` (a request body, prompts for instance).
        where: The path on the file host.
        method: HTTP method.
    """

    what: str
    where: str
    method: str


@attrs.frozen(kw_only=True)
class Delivery:
    """One attempt to deliver a webhook; ``status`` is None when no answer came."""

    task_id: str
    url: str
    attempt: int
    at: float
    status: int | None


@attrs.frozen(kw_only=True)
class Ledger(Sequence[Charge]):
    """What was charged and asked for, at one moment; iterating it gives the charges.

    Attributes:
        charges: Every payment, refunded ones included.
        balance: Credits left.
        posts: Every create request, accepted or not.
        requests: Requests per endpoint (names of `Endpoint`).
        running: Tasks being generated now.
        peak_running: The most there ever were at once.
        idle_slot_seconds: Service seconds of unused task slots between the first and the last
            accepted create: 0 for a client that keeps the account busy.
        leaks: Credentials and bodies that reached the file host.
        deliveries: Webhook attempts.
    """

    charges: tuple[Charge, ...]
    balance: Decimal
    posts: tuple[Post, ...]
    requests: Mapping[str, int]
    running: int
    peak_running: int
    idle_slot_seconds: float
    leaks: tuple[Leak, ...]
    deliveries: tuple[Delivery, ...]

    @property
    def spent(self) -> int:
        """Credits paid and not refunded."""
        return sum(charge.credits for charge in self.charges if not charge.refunded)

    def __len__(self) -> int:
        return len(self.charges)

    @overload
    def __getitem__(self, index: int) -> Charge: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Charge, ...]: ...

    def __getitem__(self, index: int | slice) -> Charge | tuple[Charge, ...]:
        return self.charges[index]

    def __iter__(self) -> Iterator[Charge]:
        return iter(self.charges)
