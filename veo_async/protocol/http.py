"""What goes over the wire, as values: nothing here opens a connection."""

from collections.abc import Mapping

import attrs

from veo_async.models import JSONObject

__all__: list[str] = []


@attrs.frozen(kw_only=True)
class HttpRequest:
    """One call of the API.

    Attributes:
        method: `GET` or `POST`.
        path: Absolute path at the host.
        query: Query parameters.
        body: JSON body, if any.
        base_url: The host; None for the API's.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: JSONObject | None = None
    base_url: str | None = None


@attrs.frozen(kw_only=True)
class HttpResponse:
    """One answer of the API.

    Attributes:
        status: HTTP status.
        body: The whole body.
        retry_after: Seconds of a readable `Retry-After` header.
        service_id: What the service's side calls the request, if a header says so.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    service_id: str | None = None
