"""A journal in PostgreSQL, for workers on several hosts: `pip install "veo-async[postgres]"`."""

import re
from typing import TYPE_CHECKING, Final

from veo_async.errors import ConfigurationError
from veo_async.store import Store

if TYPE_CHECKING:
    from veo_async.integrations.postgres_store import Dsn

__all__ = ["PostgresJournal"]

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgresJournal:
    """A journal in a schema of a PostgreSQL database, made on first use.

    Give one to `VeoClient.run_job` as `journal=`. Each client that uses it has one connection.
    While the server is gone, nothing is submitted: after 30 s `run_job` raises `JournalError`. What
    is paid by then is written down as soon as the server is back, as long as the client lives.

    It needs connections that are its own from one transaction to the next: where pgbouncer is in
    between, in session mode.

    Args:
        dsn: A connection string or URL of libpq; what it leaves out comes from `PGHOST` and its
            kin. A password in it is never shown.
        schema: The schema that is its own, in lower case.

    Raises:
        ConfigurationError: One of them is impossible, or psycopg is missing.
    """

    def __init__(self, dsn: str = "", *, schema: str = "veo_async") -> None:
        if not _NAME.fullmatch(schema):
            raise ConfigurationError(
                f"schema is {schema!r:.80}; give lower-case letters, digits and underscores"
            )
        try:
            from veo_async.integrations.postgres_store import Dsn  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ConfigurationError(
                'a journal in PostgreSQL needs psycopg; pip install "veo-async[postgres]"'
            ) from error
        self._schema = schema
        read = Dsn.read(dsn)
        del dsn  # which may hold a password, and would be a local of what is raised
        if read is None:
            raise ConfigurationError(
                "dsn is no connection string of PostgreSQL; give one such as"
                " postgresql://user@host/database"
            )
        self._dsn = read

    @property
    def server(self) -> "Dsn":
        """Where it is."""
        return self._dsn

    @property
    def schema(self) -> str:
        """The schema that is its own."""
        return self._schema

    def open_store(self, mark: str | None) -> Store:
        """Open it; make it where there is none. `run_job` does so, in a thread.

        Raises:
            JournalError: The server cannot be reached, or the schema cannot be used.
        """
        from veo_async.integrations.postgres_store import PostgresStore  # noqa: PLC0415  # an extra

        database = PostgresStore(self._dsn, self._schema)
        try:
            database.prepare(mark)
        except BaseException:
            database.close()
            raise
        return database

    def __repr__(self) -> str:
        dsn: Dsn | None = getattr(self, "_dsn", None)  # a crash report may show one half-made
        return f"<PostgresJournal {dsn.shown if dsn else 'unfinished'} schema={self._schema}>"
