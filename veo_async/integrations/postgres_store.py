"""A schema of PostgreSQL as a journal's database, by one connection in one thread."""

import logging
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import attrs
import psycopg
from psycopg import conninfo, sql

from veo_async.errors import JournalError
from veo_async.store import Connection, Rows, UnreachableError

__all__: list[str] = []

_log = logging.getLogger(__name__)
_VERSION: Final = "1"
# Seconds, so that one worker that was frozen keeps the others from writing for so long at most.
_LONGEST_TRANSACTION: Final = 10
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
    "application_name": "veo-async",
}
_SCHEMA: Final = (
    """CREATE TABLE jobs (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        position BIGINT NOT NULL,
        request_text TEXT,
        source TEXT,
        state TEXT NOT NULL,
        file TEXT,
        size BIGINT,
        sha256 TEXT,
        seed BIGINT,
        url TEXT,
        url_at DOUBLE PRECISION,
        error_kind TEXT,
        error_code BIGINT,
        error TEXT,
        created_at DOUBLE PRECISION NOT NULL,
        stored_at DOUBLE PRECISION
    )""",
    """CREATE TABLE attempts (
        job BIGINT NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,
        token TEXT NOT NULL UNIQUE,
        task_id TEXT,
        credits INTEGER NOT NULL,
        charged INTEGER NOT NULL,
        intent_at DOUBLE PRECISION NOT NULL,
        submitted_at DOUBLE PRECISION,
        ended_at DOUBLE PRECISION,
        "end" TEXT,
        error_code BIGINT,
        error TEXT,
        PRIMARY KEY (job, number)
    )""",
    """CREATE TABLE claims (
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        place TEXT NOT NULL,
        pid BIGINT NOT NULL,
        born TEXT NOT NULL,
        lapses DOUBLE PRECISION NOT NULL
    )""",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE INDEX jobs_state ON jobs (state)",
    # A folder may not tell upper case from lower.
    "CREATE UNIQUE INDEX jobs_file ON jobs (lower(file))",
)


@attrs.frozen(repr=False)
class Dsn:
    """Where a server is, without showing how one gets in.

    Attributes:
        shown: What people may see of it.
    """

    _value: str
    shown: str

    @classmethod
    def read(cls, given: str) -> "Dsn | None":
        """Return where a string leads to, None where it makes no sense."""
        try:
            told = conninfo.conninfo_to_dict(given)
        except (psycopg.Error, AttributeError, TypeError):
            return None  # the words of the error repeat what may be the password
        full = conninfo.make_conninfo("", **(_DEFAULTS | told))
        parts = (f"{name}={told[name]}" for name in ("host", "port", "dbname") if name in told)
        return cls(full, " ".join(parts) or "of the environment")

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]] | str":
        """Return a connection, or why there is none."""
        try:
            return psycopg.connect(self._value, autocommit=True)
        except psycopg.Error as error:
            return words(error)

    async def connect_async(
        self,
    ) -> "psycopg.AsyncConnection[tuple[Any, ...]] | str":
        """Return a connection for an event loop, or why there is none."""
        try:
            return await psycopg.AsyncConnection.connect(self._value, autocommit=True)
        except psycopg.Error as error:
            return words(error)


class _Connection:
    """Speaks to the server as `sqlite3.Connection` speaks to a file; connects anew if it has to.

    Args:
        dsn: Where the server is.
        schema: What is looked into.
    """

    def __init__(self, dsn: Dsn, schema: str) -> None:
        self._dsn = dsn
        self._schema = schema
        self._lock = zlib.crc32(schema.encode())
        self._raw: psycopg.Connection[tuple[Any, ...]] | None = None
        self._is_inside: bool = False

    def execute(self, sql_text: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run a statement of SQLite's."""
        if sql_text.startswith("BEGIN"):
            return self._begin(is_writing=sql_text == "BEGIN IMMEDIATE")
        if sql_text == "ROLLBACK":
            return self._roll_back()
        # A transaction does not go on over another connection.
        raw = self._raw if self._is_inside else self._connected()
        if raw is None:
            raise psycopg.OperationalError("the connection was lost")
        done = raw.execute(sql_text.replace("?", "%s").encode(), [*map(_plain, parameters)])
        if sql_text == "COMMIT":
            self._is_inside = False
        return done

    def _begin(self, *, is_writing: bool) -> Rows:
        raw = self._connected()
        try:
            begun = raw.execute("BEGIN")
            # One after the other, as SQLite has it; an account makes two tasks a second.
            if is_writing:
                begun = raw.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))
        except BaseException:
            # Nobody rolls back what did not begin: a lock that took too long would leave it open.
            self.close()
            raise
        self._is_inside = True
        return begun

    def _roll_back(self) -> Rows:
        self._is_inside = False
        raw, self._raw = self._raw, None
        if raw is None:
            raise psycopg.OperationalError("the connection was lost")
        try:
            done = raw.execute("ROLLBACK")
        except BaseException:
            raw.close()
            raise
        self._raw = raw
        return done

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self._raw is not None and not self._raw.closed:
            return self._raw
        raw = self._dsn.connect()
        if isinstance(raw, str):
            raise psycopg.OperationalError(raw)
        for setting in (
            sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)),
            # One whose worker was frozen or unplugged in the middle of it lets the others go on.
            sql.SQL("SET idle_in_transaction_session_timeout TO {}").format(
                sql.Literal(f"{_LONGEST_TRANSACTION}s")
            ),
            sql.SQL("SET lock_timeout TO {}").format(sql.Literal(f"{2 * _LONGEST_TRANSACTION}s")),
            # It is what was paid, whatever the database's default for other data is.
            sql.SQL("SET synchronous_commit TO ON"),
        ):
            try:
                raw.execute(setting)
            except BaseException:
                raw.close()
                raise
        self._raw = raw
        return raw

    def close(self) -> None:
        """Let go of the server."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


class PostgresStore:
    """The schema as a journal's database, for one thread at a time."""

    is_live: bool = True  # others may write at any time
    is_local: bool = False
    same_file: str = "lower(file) = lower(?)"
    errors: type[Exception] = psycopg.Error

    def __init__(self, dsn: Dsn, schema: str) -> None:
        self._name = f"journal in PostgreSQL ({dsn.shown}, schema {schema})"
        self._schema = schema
        self._speaker = _Connection(dsn, schema)

    @property
    def connection(self) -> Connection:
        """What speaks to it."""
        return self._speaker

    def close(self) -> None:
        """Let go of the server."""
        self._speaker.close()

    def clock(self) -> float:
        """Return the server's time, in epoch seconds."""
        row = self._speaker.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        now: float = row.fetchone()[0]
        return now

    @contextmanager
    def mapping(self) -> Generator[None]:
        """Turn what goes wrong with it into a `JournalError`."""
        told: JournalError
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            told = UnreachableError(
                f"the {self._name} cannot be reached ({words(error)}); see to the server, and it"
                " goes on by itself, or run the job again",
                path=self._schema,
            )
        except psycopg.Error as error:
            told = JournalError(
                f"the {self._name} failed ({words(error)}); look at the server, then run the job"
                " again: what is written down is safe",
                path=self._schema,
            )
        else:
            return
        raise told  # without the frames of psycopg, which hold the password

    def unusable(self, why: str) -> JournalError:
        """Return the error for content that makes no sense."""
        return JournalError(
            f"the {self._name} {why}; it was not touched. Restore a copy of it, or give another"
            " schema; a new one does not know what is paid already",
            path=self._schema,
        )

    def prepare(self, mark: str | None) -> None:
        """Make the tables where there are none, once, however many workers come at once.

        Raises:
            JournalError: They cannot be made, are of a later version, or marked otherwise.
        """
        execute = self._speaker.execute
        with self.mapping():
            execute("BEGIN IMMEDIATE")
            try:
                found = execute("SELECT to_regclass(?)", (f"{self._schema}.meta",)).fetchone()
                if found[0] is None:
                    self._make(mark)
                rows = execute("SELECT name, value FROM meta").fetchall()
                execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):
                    execute("ROLLBACK")
                raise
        self._check(dict(rows), mark)

    def _make(self, mark: str | None) -> None:
        if mark is None:
            raise JournalError(
                f"there is no {self._name}; see to what it is called", path=self._schema
            )
        execute = self._speaker.execute
        execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        for statement in _SCHEMA:
            execute(statement)
        for told in (("version", _VERSION), ("mark", mark)):
            execute("INSERT INTO meta VALUES (?, ?)", told)
        _log.info("made the %s", self._name)

    def _check(self, meta: dict[str, str], mark: str | None) -> None:
        version, found = meta.get("version"), meta.get("mark")
        if version != _VERSION:
            raise JournalError(
                f"the {self._name} is of format {version}, and this version of veo_async knows"
                f" {_VERSION}; install the other one. It was not touched",
                path=self._schema,
            )
        if mark not in {None, found}:
            kinds = {"": "real money", "simulated": "play money of a simulator"}
            raise JournalError(
                f"the {self._name} is of jobs paid with {kinds.get(found or '', found)}, and this"
                f" one is paid with {kinds.get(mark or '', mark)}; give each a schema of its own",
                path=self._schema,
            )


def words(error: psycopg.Error) -> str:
    """Return what a server says of a failure, on one line."""
    said = error.diag.message_primary or str(error).strip() or type(error).__name__
    return " ".join(said.split())


def _plain(value: object) -> object:
    """Return a value as psycopg takes it: no subclass of a string, and no NUL in it."""
    return str(value).replace("\0", "\\x00") if isinstance(value, str) else value
