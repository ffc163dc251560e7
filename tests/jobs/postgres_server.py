"""A PostgreSQL server of one's own: started, stopped, killed and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import free_port

_PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
PASSWORD = "a password that nobody may see"


def _program(name: str) -> str:
    path = shutil.which(name, path=os.pathsep.join(map(str, _PLACES))) or shutil.which(name)
    if path is None:
        reason = f"{name} is missing; install the Debian package postgresql"
        if os.environ.get("VEO_ASYNC_TEST_TOOLS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Server:
    """A cluster in a folder of its own, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        if self._user is not None:
            about = pwd.getpwnam(self._user)
            os.chown(self._folder, about.pw_uid, about.pw_gid)
        subprocess.run(
            [_program("initdb"), "-D", self._folder / "data", "-U", "postgres", "-A", "trust",
             "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, user=self._user, cwd=self._folder,
        )  # fmt: skip

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._folder / "data", "-p", str(self.port),
                 "-k", self._folder, "-c", "listen_addresses=127.0.0.1",
                 "-c", "max_connections=100", "-c", "fsync=off"],
                stdout=log, stderr=log, user=self._user, cwd=self._folder,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: SIGQUIT is `pg_ctl stop -m immediate`, as a power cut is for its clients."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def dsn(self, database: str = "postgres", *, password: str = "none") -> str:
        return (
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database} password='{password}'"
        )

    def database(self, name: str) -> str:
        """Return the DSN of a new database."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.dsn(name)


@contextmanager
def running() -> Generator[Server]:
    """Run a server while inside."""
    with tempfile.TemporaryDirectory(prefix="veo-postgres-") as folder:
        server = Server(Path(folder))
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
