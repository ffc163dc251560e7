"""What a program asks of the queue: to take a job, and where one stands."""

import json
from typing import Any, Final, TypeAlias, Unpack

import attrs
import psycopg
from pgqueuer import Queries
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from psycopg import sql

from veo_async.errors import InvalidRequestError
from veo_async.jobs import checked_key, request_text
from veo_async.protocol import codec
from veo_async.request import RequestFields, VideoRequest

__all__: list[str] = []

GENERATE: Final = "veo.generate"  # until the video is ready at the service
DOWNLOAD: Final = "veo.download"  # from there to the file
_FIRST: Final = 2**31 - 1  # the highest priority that its column holds

Connection: TypeAlias = psycopg.AsyncConnection[Any]


async def install(connection: Connection) -> None:
    """Make pgqueuer's tables, or bring them up to its version. The journal makes its own.

    Args:
        connection: One with `autocommit=True`.
    """
    queries = Queries(PsycopgDriver(connection))
    if await queries.schema_is_installed():
        await queries.upgrade()
    else:
        await queries.install()


async def enqueue(
    queue: Connection | Queries,
    key: str,
    request: VideoRequest | str,
    *,
    priority: int = 0,
    **fields: Unpack[RequestFields],
) -> bool:
    """Put a job into the queue; return whether it was not there yet.

    Within the transaction of `queue`, if there is one: where that is rolled back, there is no job.
    A key that is done already may come again, and costs nothing. Images that are paths are files of
    the machine that the worker runs on; a job whose image is not there is held.

    Args:
        queue: A psycopg connection, or pgqueuer's `Queries` over any driver.
        key: What names the job, 1 to 200 characters.
        request: A `VideoRequest`, or a prompt with a request's fields as keywords.
        priority: Higher ones are generated first.
        **fields: The fields, where `request` is a prompt.

    Raises:
        InvalidRequestError: The key cannot name a job, or the request breaks the service's rules.
    """
    if not isinstance(request, VideoRequest):
        request = VideoRequest(request, **fields)
    elif fields:
        name = next(iter(fields))
        raise InvalidRequestError(
            f"{name} was given beside a VideoRequest; put it into the request", field=name
        )
    codec.check(request)
    payload = json.dumps({"key": checked_key(key), "request": request_text(request)})
    return await put(queue, GENERATE, key, payload.encode(), priority)


async def put(
    queue: Connection | Queries, entrypoint: str, key: str, payload: bytes, priority: int
) -> bool:
    """Put a job in, unless it is there; return whether it was not."""
    queries = queue if isinstance(queue, Queries) else Queries(_Plain(queue))
    (made,) = await queries.enqueue(
        [entrypoint],
        [payload],
        [priority],
        dedupe_key=[f"{entrypoint}:{key}"],
        on_conflict="skip",
    )
    return made is not None


async def put_first(connection: Connection, number: int) -> None:
    """Have a job be taken before all others, once it is back in the queue."""
    table = Queries(_Plain(connection)).qbe.settings.qualified.queue_table
    await connection.execute(
        sql.SQL("UPDATE {} SET priority = %s WHERE id = %s").format(
            sql.SQL(table)  # pyright: ignore[reportArgumentType]  # of its own settings
        ),
        (_FIRST, number),
    )


async def sent_at(connection: Connection, key: str, *, schema: str) -> float | None:
    """Return when the newest submit of a job left, in epoch seconds; None where none did."""
    cursor = await connection.execute(
        sql.SQL(
            "SELECT max(intent_at) FROM {} WHERE job = (SELECT id FROM {} WHERE key = %s)"
        ).format(sql.Identifier(schema, "attempts"), sql.Identifier(schema, "jobs")),
        (key,),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


class _Plain(PsycopgDriver):
    """Puts jobs in over any connection, one in a transaction included."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


@attrs.frozen(kw_only=True)
class Standing:
    """Where a job stands.

    Attributes:
        key: What names it.
        queued: Where it is in the queue: `queued`, `picked` or `failed` (held); None where it is
            not, since it is done or never was.
        entrypoint: What it is queued for there.
        state: Where it is in its journal, such as `submitted`, `ready` or `stored`; None where it
            has not begun.
        task_id: The service's id of its task.
        error: Why it is not done, in words.
    """

    key: str
    queued: str | None = None
    entrypoint: str | None = None
    state: str | None = None
    task_id: str | None = None
    error: str | None = None


async def standing(connection: Connection, key: str, *, schema: str = "veo_async") -> Standing:
    """Tell where a job stands, by its queue and its journal in the same database.

    Args:
        connection: A psycopg connection.
        key: What names the job.
        schema: The journal's schema.
    """
    table = Queries(_Plain(connection)).qbe.settings.qualified.queue_table
    told = Standing(key=key)
    cursor = await connection.execute(
        sql.SQL(
            "SELECT status::text, entrypoint FROM {} WHERE dedupe_key = ANY(%s)"
            " ORDER BY id DESC LIMIT 1"
        ).format(sql.SQL(table)),  # pyright: ignore[reportArgumentType]  # of its own settings
        ([f"{GENERATE}:{key}", f"{DOWNLOAD}:{key}"],),
    )
    if (row := await cursor.fetchone()) is not None:
        told = attrs.evolve(told, queued=row[0], entrypoint=row[1])
    cursor = await connection.execute("SELECT to_regclass(%s)", (f"{schema}.jobs",))
    if (row := await cursor.fetchone()) is None or row[0] is None:
        return told
    cursor = await connection.execute(
        sql.SQL(
            "SELECT state, (SELECT task_id FROM {0} WHERE job = id ORDER BY number DESC LIMIT 1),"
            " error FROM {1} WHERE key = %s"
        ).format(sql.Identifier(schema, "attempts"), sql.Identifier(schema, "jobs")),
        (key,),
    )
    if (row := await cursor.fetchone()) is not None:
        told = attrs.evolve(told, state=row[0], task_id=row[1], error=row[2])
    return told
