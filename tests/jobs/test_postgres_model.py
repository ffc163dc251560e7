"""The model of a journal, judged over PostgreSQL: the same transactions keep the same promises."""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.io.test_journal_model import QUICK, BatchMachine
from tests.jobs.postgres_server import Server
from veo_async.integrations.postgres import PostgresJournal
from veo_async.journal_file import JournalFile


def test_a_batch_is_run_again_and_again_over_a_server(server: Server):
    numbers = itertools.count()

    class PostgresMachine(BatchMachine):
        dsn: ClassVar[str] = server.database("model")

        def opened(self, opening: Callable[..., Any]) -> JournalFile:
            if not hasattr(self, "schema"):
                self.schema = f"model_{next(numbers)}"
            store = PostgresJournal(self.dsn, schema=self.schema).open_store("")
            # Where inputs are counted, as a batch's own opening makes it.
            store.connection.execute(
                "CREATE TEMP TABLE pulled (identity TEXT PRIMARY KEY, count INTEGER)"
            )
            return self.Journal(store, self.folder)

        def teardown(self) -> None:
            self.file._db.execute(f"DROP SCHEMA {self.schema} CASCADE")
            super().teardown()

    run_state_machine_as_test(
        PostgresMachine, settings=settings(QUICK, max_examples=8, stateful_step_count=40)
    )
