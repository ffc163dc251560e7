"""What a journal needs of the database that keeps it, whichever that is."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from veo_async.errors import JournalError

__all__: list[str] = []


class Rows(Protocol):
    """The answer to a statement."""

    def fetchone(self) -> Any:  # noqa: ANN401  # a database's own types
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""
        ...


class Connection(Protocol):
    """What speaks to the database: `sqlite3.Connection`, or what behaves like one.

    Statements are in the SQL that SQLite and PostgreSQL share, with `?` for parameters. `BEGIN
    IMMEDIATE` waits until nobody else writes.
    """

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run a statement."""
        ...


class Store(Protocol):
    """An open journal's database, for one thread at a time."""

    @property
    def connection(self) -> Connection:
        """What speaks to it."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether it is only looked at, while others write."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether all who share it are on this machine."""
        ...

    @property
    def same_file(self) -> str:
        """The condition for a job to have the file of a name, in SQL."""
        ...

    @property
    def errors(self) -> type[Exception]:
        """What the connection raises."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...

    def mapping(self) -> AbstractContextManager[None]:
        """Turn what goes wrong with it into a `JournalError` while inside."""
        ...

    def unusable(self, why: str) -> JournalError:
        """Return the error for content that makes no sense."""
        ...

    def clock(self) -> float:
        """Return the time by the clock that all who share it have, in seconds."""
        ...


class UnreachableError(JournalError):
    """A journal cannot be got at for now. What it was told last is not known to be done."""


class MovedError(JournalError):
    """Somebody else has moved a job on, or may."""
