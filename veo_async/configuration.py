"""What a client is told, checked once, before anything runs."""

import os
import ssl as ssl_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from veo_async.errors import ConfigurationError
from veo_async.events import Emitter
from veo_async.limits import PaceGate, TaskLimiter
from veo_async.settings import (
    BASE_URL,
    BASE_URL_VARIABLE,
    KEY_VARIABLE,
    ApiKey,
    PollPolicy,
    RetryPolicy,
    Timeouts,
)

if TYPE_CHECKING:
    import aiohttp

__all__: list[str] = []


def read_api_key(given: str | None) -> ApiKey:
    """Return the key that was given, or the environment's.

    Raises:
        ConfigurationError: There is none, or it cannot be one. The message does not show it.
    """
    key = (os.environ.get(KEY_VARIABLE, "") if given is None else given).strip()
    if not key:
        raise ConfigurationError(
            f"no API key; set the environment variable {KEY_VARIABLE}, or pass"
            " VeoClient(api_key=…). Keys are made at https://kie.ai/api-key"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError(
            "the API key holds a blank or a character that no key has; copy it again from"
            " https://kie.ai/api-key"
        )
    return ApiKey(key)


def read_base_url(given: str | None) -> str:
    """Return the API's address that was given, or the environment's, or the service's.

    Raises:
        ConfigurationError: It is no http(s) address.
    """
    url = given or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    remedy = f"give one such as {BASE_URL}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the base URL cannot be read ({error}); {remedy}") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"the base URL holds more than an address and a path; {remedy}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"the base URL {url!r} is not http(s); {remedy}")
    return url.rstrip("/")


def _at_least_one(_owner: object, field: "attrs.Attribute[int]", value: int) -> None:
    if value < 1:
        raise ConfigurationError(f"{field.name} is {value}; give 1 or more")


def _not_negative(_owner: object, field: "attrs.Attribute[int | None]", value: int | None) -> None:
    if value is not None and value < 0:
        raise ConfigurationError(f"{field.name} is {value}; give credits of 0 or more, or None")


def _http(_owner: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    if value is None:
        return
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"{field.name} is {value!r}; give an http:// or https:// URL")


@attrs.frozen(kw_only=True)
class Configuration:
    """The settings of one client; `VeoClient` describes each of them."""

    key: ApiKey
    base_url: str
    limiter: TaskLimiter = attrs.field(repr=False)
    gate: PaceGate = attrs.field(repr=False)
    poll: PollPolicy
    retry: RetryPolicy
    timeouts: Timeouts
    max_downloads: int = attrs.field(validator=_at_least_one)
    max_credits: int | None = attrs.field(validator=_not_negative)
    connector: "aiohttp.BaseConnector | None" = attrs.field(repr=False)
    proxy: str | None = attrs.field(validator=_http, repr=False)
    ssl: ssl_module.SSLContext | bool
    callback_url: str | None = attrs.field(validator=_http)
    emitter: Emitter = attrs.field(repr=False)
