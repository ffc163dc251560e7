"""Workers that are killed at any moment pay nothing twice and lose nothing that is paid."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.flows.batches import service
from tests.jobs.crew import crew, judge, killed_until
from tests.jobs.postgres_server import Server
from veo_async.database import JOURNAL_NAME
from veo_async.integrations.postgres import PostgresJournal
from veo_async.jobs import Job
from veo_async.journal_file import JournalFile, read_journal
from veo_async.protocol.jobs import JobState
from veo_async.simulator import Simulator

pytestmark = pytest.mark.anyio

KEYS = [f"boat {number}" for number in range(24)]


def job_of(sim: Simulator, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "kind": "run_job",
        "api_key": sim.api_key,
        "base_url": sim.base_url,
        "directory": str(folder),
        "limiter": str(folder / "slots.db"),
        "keys": KEYS,
        "uncertain": 0.5,
    } | more


def in_file(folder: Path) -> list[Job]:
    with closing(read_journal(folder / JOURNAL_NAME, folder)) as journal:
        return [*journal.jobs()]


def in_server(dsn: str, folder: Path) -> list[Job]:
    with closing(JournalFile(PostgresJournal(dsn).open_store("simulated"), folder)) as journal:
        return [*journal.jobs()]


@pytest.mark.parametrize("seed", [1])
async def test_workers_of_one_host_that_are_killed(tmp_path: Path, seed: int):
    async with service(generation_seconds=800) as sim:
        with crew(job_of(sim, tmp_path)) as workers:
            workers.until_ready()
            await killed_until(workers, lambda: workers.is_idle, kills=6, seed=seed)
        counts = judge(sim, in_file(tmp_path), KEYS, tmp_path)
    assert sum(counts.values()) == len(KEYS)
    assert counts["stored"] >= len(KEYS) - 6


@pytest.mark.parametrize("seed", [2])
async def test_workers_with_a_server_that_are_killed(tmp_path: Path, dsn: str, seed: int):
    async with service(generation_seconds=800) as sim:
        with crew(job_of(sim, tmp_path, dsn=dsn)) as workers:
            workers.until_ready()
            await killed_until(workers, lambda: workers.is_idle, kills=6, seed=seed)
        counts = judge(sim, in_server(dsn, tmp_path), KEYS, tmp_path)
    assert sum(counts.values()) == len(KEYS)
    assert counts["stored"] >= len(KEYS) - 6


@pytest.mark.parametrize("has_server", [False, True], ids=["file", "server"])
async def test_films_go_on_in_other_workers_at_the_step_at_which_theirs_was_killed(
    tmp_path: Path, has_server: bool, request: pytest.FixtureRequest
):
    steps, keys = 3, KEYS[:12]
    where = {"dsn": request.getfixturevalue("dsn")} if has_server else {}
    async with service(dialect="live", generation_seconds=300) as sim:
        with crew(job_of(sim, tmp_path, keys=keys, steps=steps, **where)) as workers:
            workers.until_ready()
            await killed_until(workers, lambda: workers.is_idle, kills=6, seed=7)
        known = in_server(where["dsn"], tmp_path) if has_server else in_file(tmp_path)
    paid = {charge.prompt: charge.task_id for charge in sim.ledger}
    assert len(paid) == len(sim.ledger), "nothing is paid twice"
    assert sim.ledger.peak_running <= 10
    assert [job.key for job in sorted(known, key=lambda job: keys.index(job.key))] == keys
    for job in known:
        prompts = [job.key, *(f"{job.key} .{step}" for step in range(1, steps))]
        done = [step.task_id for step in job.steps]
        assert done == [paid[prompt] for prompt in prompts[: len(done)]], "in this order"
        assert job.state is (JobState.STORED if len(done) == steps else JobState.UNKNOWN)
    assert sum(job.state is JobState.STORED for job in known) >= len(keys) - 6


async def test_a_server_that_stops_in_the_middle(tmp_path: Path, server: Server):
    """`pg_ctl stop -m immediate` while workers are at work, and a start soon after."""
    dsn = server.database("stopped")
    async with service(generation_seconds=800) as sim:
        with crew(job_of(sim, tmp_path, dsn=dsn)) as workers:
            workers.until_ready()
            await killed_until(workers, lambda: len(sim.ledger) > 10, kills=0, seed=3)
            server.stop()
            await killed_until(workers, lambda: True, kills=1, seed=4)
            server.start()
            await killed_until(workers, lambda: workers.is_idle, kills=1, seed=5)
        counts = judge(sim, in_server(dsn, tmp_path), KEYS, tmp_path)
    assert sum(counts.values()) == len(KEYS)
    assert counts["stored"] >= len(KEYS) - 2 - 10
