"""What a client is told, checked once, before anything runs."""

import os
import secrets
import ssl as ssl_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from veo_async.errors import ConfigurationError
from veo_async.events import Emitter
from veo_async.limits import PaceGate, SharedTaskLimiter, TaskLimiter
from veo_async.models import Dialect
from veo_async.prices import Budget
from veo_async.protocol import callbacks
from veo_async.request import is_http_url
from veo_async.settings import (
    BASE_URL,
    BASE_URL_VARIABLE,
    KEY_VARIABLE,
    UPLOAD_URL,
    ApiKey,
    PollPolicy,
    RetryPolicy,
    Timeouts,
)

if TYPE_CHECKING:
    import aiohttp

    from veo_async.webhooks import WebhookReceiver

__all__: list[str] = []


def read_api_key(given: ApiKey | None) -> ApiKey:
    """Return the key that was given, or the environment's.

    Raises:
        ConfigurationError: There is none, or it cannot be one. Neither the message nor a local of
            a frame shows it.
    """
    key = ApiKey(os.environ.get(KEY_VARIABLE, "")) if given is None else given
    if not key.is_there:
        raise ConfigurationError(
            f"no API key; set the environment variable {KEY_VARIABLE}, or pass"
            " VeoClient(api_key=…). Keys are made at https://kie.ai/api-key"
        )
    if not key.is_plausible:
        raise ConfigurationError(
            "the API key holds a blank or a character that no key has; copy it again from"
            " https://kie.ai/api-key"
        )
    return key


def _is_a_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def read_base_url(given: str | None) -> str:
    """Return the API's address that was given, or the environment's, or the service's.

    Raises:
        ConfigurationError: It is no http(s) address.
    """
    return _address(given or os.environ.get(BASE_URL_VARIABLE) or BASE_URL, "base URL", BASE_URL)


def read_upload_url(given: str | None, base_url: str) -> str:
    """Return the upload host that was given, or the one that goes with a base URL.

    Raises:
        ConfigurationError: It is no http(s) address.
    """
    usual = UPLOAD_URL if base_url == BASE_URL else base_url
    return _address(usual if given is None else given, "upload URL", UPLOAD_URL)


def _address(url: str, what: str, example: str) -> str:
    if is_http_url(url) and not {"?", "#"} & {*url} and _is_a_name(urlsplit(url).hostname or ""):
        return url.rstrip("/")
    # The URL is not shown, since what is wrong with it may be a password in it.
    raise ConfigurationError(
        f"the {what} is not an http(s) address with at most a path; give one such as {example}"
    )


def read_dialect(given: Dialect | str) -> Dialect:
    """Return a dialect by its name.

    Raises:
        ConfigurationError: There is none of that name.
    """
    try:
        return Dialect(given)
    except ValueError:
        choices = ", ".join(repr(str(one)) for one in Dialect)
        raise ConfigurationError(f"dialect is {given!r:.80}; choose one of {choices}") from None


def _at_least_one(_owner: object, field: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{field.name} is {value!r}; give a whole number of 1 or more")


def read_budget(given: int | None) -> Budget:
    """Return a budget for `max_credits`.

    Raises:
        ConfigurationError: It is no number of credits.
    """
    if given is not None and (type(given) is not int or given < 0):
        raise ConfigurationError(f"max_credits is {given!r}; give credits of 0 or more, or None")
    return Budget(given)


def _http(_owner: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    if value is not None and not is_http_url(value):
        raise ConfigurationError(f"{field.name} is {value!r}; give an http:// or https:// URL")


def _proxy(_owner: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    # It may hold a password, so it is checked less and never shown.
    if value is not None and not value.startswith(("http://", "https://")):
        raise ConfigurationError(f"{field.name} is no http:// or https:// URL; give one, or None")


def _policy(kind: type[object]) -> Callable[[object, "attrs.Attribute[Any]", object], None]:
    def check(_owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigurationError(f"{field.name} is {value!r}; give a {kind.__name__}")

    return check


def _webhooks(
    _owner: object, _field: "attrs.Attribute[WebhookReceiver | None]", value: object
) -> None:
    if value is not None and not callable(getattr(value, "register", None)):
        raise ConfigurationError(f"webhooks is {value!r}; give a WebhookReceiver, or None")


def read_pace(given: tuple[int, float] | None, limiter: TaskLimiter) -> PaceGate:
    """Return a gate for a pace, which is shared where the slots are.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        is_pace = given is None or (given[0] >= 1 and given[1] > 0 and given[0] == int(given[0]))
        if is_pace:
            return PaceGate(given, limiter if isinstance(limiter, SharedTaskLimiter) else None)
    except (TypeError, IndexError, ValueError):
        pass
    raise ConfigurationError(
        f"pace is {given!r}; give (how many, in how many seconds), or None for no limit"
    )


@attrs.frozen(kw_only=True)
class Configuration:
    """The settings of one client; `VeoClient` describes each of them."""

    key: ApiKey
    base_url: str
    dialect: Dialect = Dialect.AUTO
    upload_url: str = UPLOAD_URL
    limiter: TaskLimiter = attrs.field(repr=False)
    gate: PaceGate = attrs.field(repr=False)
    poll: PollPolicy = attrs.field(validator=_policy(PollPolicy))
    retry: RetryPolicy = attrs.field(validator=_policy(RetryPolicy))
    timeouts: Timeouts = attrs.field(validator=_policy(Timeouts))
    max_downloads: int = attrs.field(validator=_at_least_one)
    budget: Budget
    connector: "aiohttp.BaseConnector | None" = attrs.field(repr=False)
    proxy: str | None = attrs.field(validator=_proxy, repr=False)
    ssl: ssl_module.SSLContext | bool
    callback_url: str | None = attrs.field(validator=_http)
    webhooks: "WebhookReceiver | None" = attrs.field(default=None, validator=_webhooks)
    emitter: Emitter = attrs.field(repr=False)

    @property
    def verifier(self) -> bytes:
        """What proves the tokens of all clients of this account."""
        return self.key.derived(callbacks.VERIFIER_LABEL)

    def new_token(self) -> str:
        """Return a random token that names a submit, and that no other account can make."""
        nonce = secrets.token_bytes(callbacks.NONCE_BYTES)
        return callbacks.token_of(self.verifier, nonce)
