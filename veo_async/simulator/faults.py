"""Scripted faults: what goes wrong, where, and at which occurrences."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import attrs

from veo_async.simulator.dice import fraction
from veo_async.simulator.records import Endpoint

T = TypeVar("T")

_HUGE: Final = 64 << 20
"""Bytes: far above any sensible limit on a JSON body, and quick to send over loopback."""

_NOTHING: Final = object()

# What a kind's value is: a type, and the default where it may be left out.
_ANSWER_KINDS: Final[Mapping[str, tuple[type | None, object]]] = {
    "lose_answer": (None, None),
    "reset_before": (None, None),
    "hang": (None, None),
    "delay": (float, _NOTHING),
    "status": (int, _NOTHING),
    "unknown": (None, None),
    "garbage": (None, None),
    "html": (int, 200),
    "empty": (None, None),
    "truncated_json": (None, None),
    "huge": (int, _HUGE),
    "bomb": (int, _HUGE),
    "deep": (int, 200_000),
    "redirect": (str, _NOTHING),
}
_VIDEO_KINDS: Final[Mapping[str, tuple[type | None, object]]] = {
    "reset_before": (None, None),
    "hang": (None, None),
    "delay": (float, _NOTHING),
    "status": (int, _NOTHING),
    "html": (int, 200),
    "empty": (None, None),
    "redirect": (str, _NOTHING),
    "expire": (None, None),
    "cut_at": (int, _NOTHING),
    "stall_at": (int, _NOTHING),
    "no_length": (None, None),
    "change_etag": (None, None),
    "weak_etag": (None, None),
    "no_etag": (None, None),
    "no_ranges": (None, None),
    "lying_range": (str, "start"),
    "ignore_if_range": (None, None),
    "drip": (float, _NOTHING),
    "gzip": (None, None),
}
_WEBHOOK_KINDS: Final[Mapping[str, tuple[type | None, object]]] = {
    "drop": (None, None),
    "duplicate": (None, None),
    "delay": (float, _NOTHING),
    "bad_signature": (None, None),
}

# These change an answer that another fault may change as well; the others replace it.
_MODIFIERS: Final = frozenset(
    {
        "delay", "cut_at", "stall_at", "no_length", "change_etag", "weak_etag", "no_etag",
        "no_ranges", "lying_range", "ignore_if_range", "drip", "gzip", "duplicate",
        "bad_signature",
    }
)  # fmt: skip

_PROCESSED: Final = frozenset(
    {"lose_answer", "garbage", "empty", "truncated_json", "huge", "bomb", "deep"}
)

_API: Final = (
    "generate", "extend", "record-info", "1080p", "4k", "credit", "download-url", "upload",
)  # fmt: skip
_KINDS: Final[Mapping[str, Mapping[str, tuple[type | None, object]]]] = {
    **dict.fromkeys((*_API, "*"), _ANSWER_KINDS),
    "video": _VIDEO_KINDS,
    "webhook": _WEBHOOK_KINDS,
}
_OPTIONS: Final = (
    "times", "after", "every", "probability", "match", "text", "retry_after", "http", "processed",
)  # fmt: skip


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    The text form, for command lines, is ``endpoint:kind[=value][:option=value]...``:
    ``generate:lose_answer:times=1``, ``video:cut_at=100000:times=2``,
    ``record-info:status=503:text=upstream is away:every=3``. ``str(fault)`` gives it back.

    Kinds of the API endpoints (``generate``, ``extend``, ``record-info``, ``1080p``, ``4k``,
    ``credit``, ``download-url``, ``upload``, and ``*`` for all of them; a call of
    ``/api/v1/jobs`` counts as the one that does the same):

    - ``lose_answer``: the call takes effect, then the connection is reset without an answer.
    - ``reset_before``: the connection is reset and nothing takes effect.
    - ``hang``: no answer ever.
    - ``delay=SECONDS``: the answer is late (service seconds).
    - ``status=CODE``: an error envelope of that code, as the dialect sends it; `text`,
      `retry_after` and `http` change its words, its Retry-After and its HTTP status.
    - ``unknown``: the dialect's answer for an unknown task.
    - ``html[=STATUS]``, ``empty``, ``garbage``, ``truncated_json``: not the JSON it should be.
    - ``huge[=BYTES]``: the answer, padded with blanks; ``bomb[=BYTES]``: the same in gzip;
      ``deep[=LEVELS]``: nested arrays.
    - ``redirect=URL``: with the status of `http` (default 307). ``{api}`` and ``{files}`` in the
      URL stand for the two origins of the simulator.

    Kinds of ``video``, the file host, where those marked + combine:

    - ``reset_before``, ``hang``, ``delay=SECONDS`` +, ``status=CODE``, ``html[=STATUS]``,
      ``empty``, ``redirect=URL``: as above, with bodies as storage hosts have them.
    - ``expire``: 403, and every URL of the file handed out so far is dead; ``record-info``
      hands out a good one, or, where the links of results do not expire, ``download-url``.
    - ``cut_at=OFFSET`` +: the connection closes before that byte of the file, when the answer
      crosses it; ``stall_at=OFFSET`` +: no more bytes from there, and no end.
    - ``no_length`` +: no Content-Length; the closing connection ends the body.
    - ``change_etag`` +: the file has new bytes and a new ETag from this request on.
    - ``weak_etag`` +, ``no_etag`` +: a useless or no entity tag.
    - ``no_ranges`` +: always 200 and the whole file.
    - ``lying_range[=start|total]`` +: a 206 whose Content-Range tells another start or total
      than the bytes have.
    - ``ignore_if_range`` +: 206 although If-Range does not match.
    - ``drip=BYTES`` +: so many bytes per service second.
    - ``gzip`` +: Content-Encoding gzip although nobody asked.

    Kinds of ``webhook``: ``drop`` (never sent), ``duplicate`` (sent twice), ``delay=SECONDS``,
    ``bad_signature``.

    Attributes:
        endpoint: Where.
        kind: What.
        value: The kind's number or text.
        times: How often at most; None for every time.
        after: So many requests pass first.
        every: Of the rest, each so-manieth is hit: 3 means the third, the sixth, ...
        probability: Of those, the seed's dice choose so large a part.
        match: Only requests about prompts or file paths that contain this count.
        text: Words of an error.
        retry_after: Seconds in a Retry-After header.
        http: HTTP status in place of the usual one.
        processed: Whether the call takes effect; by default only where `kind` spoils the answer
            of a call that worked (``lose_answer``, ``garbage``, ``empty``, ``truncated_json``,
            ``huge``, ``bomb``, ``deep``), and wherever `kind` is only a delay.

    Raises:
        ValueError: For an endpoint, kind or value there is not.
    """

    endpoint: str
    kind: str
    value: int | float | str | None = None
    times: int | None = attrs.field(default=None, kw_only=True)
    after: int = attrs.field(default=0, kw_only=True)
    every: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    probability: float = attrs.field(default=1.0, kw_only=True)
    match: str | None = attrs.field(default=None, kw_only=True)
    text: str | None = attrs.field(default=None, kw_only=True)
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    http: int | None = attrs.field(default=None, kw_only=True)
    processed: bool | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        kinds = _KINDS.get(self.endpoint)
        if kinds is None:
            raise ValueError(f"no endpoint {self.endpoint!r}: use one of {', '.join(_KINDS)}")
        if self.kind not in kinds:
            raise ValueError(
                f"no fault {self.kind!r} for {self.endpoint}: use one of {', '.join(kinds)}"
            )
        wanted, default = kinds[self.kind]
        value = default if self.value is None else self.value
        object.__setattr__(self, "value", _typed(self, wanted, value))

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read the text form.

        Raises:
            ValueError: Naming what is wrong with it.
        """
        endpoint, colon, rest = text.partition(":")
        if not colon:
            raise ValueError(f"{text!r} is no fault: write endpoint:kind, then options")
        head, *tail = re.split(rf":(?=(?:{'|'.join(_OPTIONS)})=)", rest)
        kind, has_value, value = head.partition("=")
        given: dict[str, str] = dict(part.split("=", 1) for part in tail)
        try:
            return cls(
                endpoint.strip(),
                kind.strip(),
                value if has_value else None,
                times=_optional(int, given.get("times")),
                after=int(given.get("after", "0")),
                every=int(given.get("every", "1")),
                probability=float(given.get("probability", "1")),
                match=given.get("match"),
                text=given.get("text"),
                retry_after=_optional(float, given.get("retry_after")),
                http=_optional(int, given.get("http")),
                processed=_optional(_truth, given.get("processed")),
            )
        except ValueError as error:
            raise ValueError(f"{text!r} is no fault: {error}") from error

    def __str__(self) -> str:
        head = self.kind if self.value is None else f"{self.kind}={self.value}"
        defaults = {field.name: field.default for field in attrs.fields(Fault)}
        options = {name: getattr(self, name) for name in _OPTIONS}
        tail = [f"{name}={value}" for name, value in options.items() if value != defaults[name]]
        return ":".join([self.endpoint, head, *tail])

    @property
    def is_modifier(self) -> bool:
        """True if it changes an answer rather than replacing it."""
        return self.kind in _MODIFIERS

    @property
    def takes_effect(self) -> bool:
        """True if the call it hits takes effect nevertheless."""
        return self.kind in _PROCESSED if self.processed is None else self.processed

    @property
    def number(self) -> float:
        """The value of a kind that has a number."""
        return float(self.value or 0)


@attrs.frozen
class Hits:
    """The faults that hit one request: at most one that replaces the answer, any modifiers."""

    replacing: Fault | None = None
    modifiers: tuple[Fault, ...] = ()

    def modifier(self, kind: str) -> Fault | None:
        """Return the first modifier of a kind."""
        return next((fault for fault in self.modifiers if fault.kind == kind), None)

    def __contains__(self, kind: str) -> bool:
        return self.modifier(kind) is not None

    @property
    def delay(self) -> float:
        """Service seconds to wait before the answer."""
        return sum(fault.number for fault in self.modifiers if fault.kind == "delay")

    @property
    def names(self) -> str | None:
        """The faults in text form, for the ledger."""
        every = (*self.modifiers, *([self.replacing] if self.replacing else []))
        return " ".join(map(str, every)) or None


@attrs.define
class _Scripted:
    fault: Fault
    number: int
    seen: int = 0
    fired: int = 0


class Faults:
    """The script: counts requests and says which faults hit them.

    Args:
        seed: What the dice of `Fault.probability` depend on.
    """

    def __init__(self, faults: Iterable[Fault], *, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._script: list[_Scripted] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Put a fault at the end of the script."""
        self._script.append(_Scripted(fault, self._made))
        self._made += 1

    def clear(self) -> None:
        """Drop the script; from now on nothing goes wrong."""
        self._script = []

    def draw(self, endpoint: Endpoint, subject: str) -> Hits:
        """Count a request and return what hits it.

        Args:
            endpoint: Which call it is.
            subject: Prompt and path, for `Fault.match`.
        """
        replacing: Fault | None = None
        modifiers: list[Fault] = []
        for scripted in self._script:
            fault = scripted.fault
            if not _aims_at(fault, endpoint, subject):
                continue
            scripted.seen += 1
            blocked = replacing is not None and not fault.is_modifier
            if blocked or not self._fires(scripted):
                continue
            scripted.fired += 1
            if fault.is_modifier:
                modifiers.append(fault)
            else:
                replacing = fault
        return Hits(replacing, tuple(modifiers))

    def _fires(self, scripted: _Scripted) -> bool:
        fault = scripted.fault
        if fault.times is not None and scripted.fired >= fault.times:
            return False
        turn = scripted.seen - fault.after
        if turn < 1 or turn % fault.every:
            return False
        dice = fraction("fault", self._seed, scripted.number, scripted.seen)
        return dice < fault.probability


def _aims_at(fault: Fault, endpoint: Endpoint, subject: str) -> bool:
    aims = _API if fault.endpoint == "*" else (fault.endpoint,)
    return endpoint.value in aims and (fault.match is None or fault.match in subject)


def _typed(fault: Fault, wanted: type | None, value: object) -> int | float | str | None:
    if wanted is None:
        if value is not None:
            raise ValueError(f"{fault.kind} takes no value")
        return None
    if value is _NOTHING:
        raise ValueError(f"{fault.kind} needs a value: {fault.kind}=...")
    if wanted is str:
        return str(value)
    number = float(str(value))
    if number < 0:
        raise ValueError(f"{fault.kind} must not be negative")
    return int(number) if wanted is int else number


def _optional(convert: Callable[[str], T], text: str | None) -> T | None:
    return None if text is None else convert(text)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
