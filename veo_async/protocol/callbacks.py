"""Callbacks: bytes to a task id or a refusal, signatures, and the tokens in callback URLs.

A callback is a hint. Its signature covers a task id and a time but not the body (live document
2.9), so the id is all that is read of it; what became of a task is asked of `record-info`.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias, cast

import attrs

from veo_async.errors import ConfigurationError, SignatureError, WebhookError
from veo_async.models import JSON, JSONObject
from veo_async.protocol import dialect, reading

__all__ = ["Callback"]

MAX_BYTES: Final = 64 * 1024  # the live document's largest example has about 1 KB
TIMESTAMP_HEADER: Final = "x-webhook-timestamp"  # live document 2.9, like the next
SIGNATURE_HEADER: Final = "x-webhook-signature"

VERIFIER_LABEL: Final = b"veo_async callback token 1"  # keeps this use of a key from any other
NONCE_BYTES: Final = 16

_PROOF_BYTES: Final = 16
_TOKEN_LENGTH: Final = 2 * (NONCE_BYTES + _PROOF_BYTES)  # characters, in hex
_LONGEST_NUMBER: Final = 400  # digits; a float has 309 at most, and a longer int takes long to read
_LONGEST_TIMESTAMP: Final = 12  # digits; seconds have ten until the year 2286
_LONGEST_TOKEN: Final = 256
_PLACES: Final = (("taskId",), ("data", "taskId"), ("data", "task_id"))  # spec; live 2.8, 2.9

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]


@attrs.frozen
class Callback:
    """What a callback says that may be believed.

    Attributes:
        task_id: The service's id.
        token: The last segment of the path that it came to; None if there is none.
    """

    task_id: str
    token: str | None = None


@attrs.frozen(repr=False)
class Secrets:
    """The keys that sign callbacks, which do not show themselves."""

    _values: tuple[bytes, ...]
    _is_fine: bool = True

    @classmethod
    def of(cls, given: str | Iterable[str] | None) -> "Secrets":
        """Wrap the keys: none, one, or several while they are being replaced."""
        texts = _members(given)
        values = [text.strip().encode() for text in texts if isinstance(text, str) and text.strip()]
        is_fine = len(values) == len(texts) and (given is None or bool(texts))
        return cls(tuple(values), is_fine)

    def check(self) -> None:
        """Make sure that they can be keys.

        Raises:
            ConfigurationError: One of them is empty, or no text.
        """
        if not self._is_fine:
            raise ConfigurationError(
                "secret holds no key, or an empty one; give the webhookHmacKey of the account's"
                " settings, several while it is being replaced, or None for unsigned callbacks"
            )

    def __bool__(self) -> bool:
        return bool(self._values)

    def made(self, task_id: str, timestamp: bytes, signature: bytes) -> bool:
        """Return whether one of the keys signed this."""
        # All of them are tried, so that the time it takes says nothing.
        matches = [
            hmac.compare_digest(_signature(task_id, timestamp, key), signature)
            for key in self._values
        ]
        return any(matches)

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"


def _members(given: object) -> tuple[object, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        return tuple(cast("Iterable[object]", given))
    return () if given is None else (given,)


def _signature(task_id: str, timestamp: bytes, key: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, task_id.encode() + b"." + timestamp, hashlib.sha256))


def sign(task_id: str, timestamp: int, secret: str) -> dict[str, str]:
    """Return the headers of a signed callback (live document 2.9), for tests of a receiver."""
    signature = _signature(task_id, str(timestamp).encode(), secret.encode())
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: signature.decode()}


# --- what came


def read_task_id(body: bytes) -> str:
    """Return the task id of a callback's body, in the spec's flat shape or the live envelope.

    Raises:
        WebhookError: It is too large (413), no JSON object, names no task, or two (400).
    """
    if len(body) > MAX_BYTES:
        raise too_large()
    named = {*_named(_parsed(body))}
    if len(named) == 1:
        return named.pop()
    what = "names no task" if not named else "names more than one task"
    raise WebhookError(f"the callback {what}; nothing was done", status=400)


def _parsed(body: bytes) -> JSONObject:
    reason = "no object"
    try:
        parsed = cast(
            "JSON",
            json.loads(
                body.decode("utf-8-sig"), parse_constant=_refuse, parse_int=_int, strict=False
            ),
        )
    except (ValueError, RecursionError) as error:
        parsed, reason = None, type(error).__name__
    if isinstance(parsed, dict):
        return parsed
    raise WebhookError(f"the callback is no JSON object ({reason}); nothing was done", status=400)


def _refuse(name: str) -> JSON:
    raise ValueError(name)


def _int(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(len(digits))
    return int(digits)


def _named(fields: JSONObject) -> list[str]:
    """Return the ids that are there, one for each place that holds something.

    Raises:
        WebhookError: What is there cannot be an id.
    """
    found: list[str] = []
    for place in _PLACES:
        value = _at(fields, place)
        if value is None:
            continue
        task_id = reading.as_id(value) if isinstance(value, str) else None
        if task_id is None:
            raise WebhookError("the callback's task id is none; nothing was done", status=400)
        found.append(task_id)
    return found


def _at(fields: JSONObject, place: tuple[str, ...]) -> JSON:
    for step in place[:-1]:
        inside = fields.get(step)
        fields = inside if isinstance(inside, dict) else {}
    return fields.get(place[-1])


def too_large() -> WebhookError:
    """Return the error for a body that nobody at the service writes."""
    return WebhookError(
        f"the callback has more than {MAX_BYTES} bytes; it was not read", status=413
    )


def header(headers: Headers, name: str) -> bytes | None:
    """Return a header's value, whatever the case of its name.

    Raises:
        WebhookError: It is there more than once.
    """
    pairs = cast(
        "Iterable[tuple[str | bytes, str | bytes]]",
        headers.items() if isinstance(headers, Mapping) else headers,
    )
    wanted = name.encode()
    found = [_bytes(value) for key, value in pairs if _bytes(key).lower() == wanted]
    if len(found) > 1:
        raise WebhookError(f"the header {name} is there more than once; nothing was done")
    return found[0].strip() if found else None


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode(errors="surrogatepass")


def check_signature(
    headers: Headers, task_id: str, secrets: Secrets, *, now: float, tolerance: float
) -> int:
    """Return the time at which a callback was signed, in epoch seconds.

    Args:
        headers: The request's headers.
        task_id: The id that its body names.
        secrets: The keys.
        now: The time, epoch seconds.
        tolerance: Seconds that its time may differ from `now`.

    Raises:
        SignatureError: It is not signed, by another key, or too long ago (401).
    """
    timestamp = header(headers, TIMESTAMP_HEADER)
    signature = header(headers, SIGNATURE_HEADER)
    if timestamp is None or signature is None:
        raise SignatureError(
            "the callback is not signed; create a webhookHmacKey in the account's settings, or"
            " expect unsigned callbacks with secret=None"
        )
    if not secrets.made(task_id, timestamp, signature):
        raise SignatureError("the callback's signature is wrong; compare secret with the account's")
    # After the signature, which covers its very characters.
    if not timestamp.isdigit() or len(timestamp) > _LONGEST_TIMESTAMP:
        raise SignatureError("the callback's timestamp is no number of seconds; nothing was done")
    if abs(int(timestamp) - now) > tolerance:
        raise SignatureError(
            f"the callback was signed more than {tolerance:g} s from now; set this host's clock, if"
            " it was not sent again by somebody else"
        )
    return int(timestamp)


# --- the tokens in callback URLs


def token_of(verifier: bytes, nonce: bytes) -> str:
    """Return a token: the nonce, and the proof that it was made with this verifier.

    Every worker of an application can tell it from a guess, without having seen it before.

    Args:
        verifier: What everyone with the same API key derives from it.
        nonce: `NONCE_BYTES` random bytes.
    """
    return nonce.hex() + hmac.digest(verifier, nonce, hashlib.sha256)[:_PROOF_BYTES].hex()


def is_token(token: str | None, verifier: bytes) -> bool:
    """Return whether a token was made with this verifier."""
    if token is None or len(token) != _TOKEN_LENGTH:
        return False
    try:
        nonce = bytes.fromhex(token[: 2 * NONCE_BYTES])
    except ValueError:
        return False
    return hmac.compare_digest(token_of(verifier, nonce).encode(), token.encode(errors="replace"))


def last_segment(path: str) -> str | None:
    """Return the last segment of the path of a URL, or of a path; None where it can be no token."""
    whole = path.partition("?")[0].partition("#")[0]
    below = whole.partition("://")[2].partition("/")[2] if "://" in whole else whole
    segment = below.rstrip("/").rpartition("/")[2]
    is_plain = segment.isascii() and segment.isprintable()
    return segment if is_plain and 0 < len(segment) <= _LONGEST_TOKEN else None


def echoes(raw: JSONObject, *, prompt: str, is_translated: bool, token: str) -> bool:
    """Return whether a task's record may be that of a submit, by what it repeats of the request.

    The live service repeats the request (live document 2.4 and 2.13), the spec's does not.

    Args:
        raw: The record.
        prompt: The prompt that was sent.
        is_translated: Whether the service may have translated it (spec: enableTranslation).
        token: The token in the callback URL that was sent.
    """
    url = reading.as_text(reading.find(raw, dialect.ECHOED_URL))
    if url is not None:
        return last_segment(url) == token
    told = reading.as_text(reading.find(raw, dialect.ECHOED_PROMPT))
    if told is None or (is_translated and not prompt.isascii()):
        return True
    return told.split() == prompt.split()
