"""Callbacks that reach another process than the one that waits, and those that outlive it."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import anyio
import pytest

from tests.flows.batches import client_of, paid_once, ran, service
from tests.flows.receivers import flat, on_aiohttp, post
from veo_async import (
    Callback,
    ConfigurationError,
    FileInbox,
    Inbox,
    PollPolicy,
    WebhookReceiver,
)
from veo_async.inbox_file import Neighbours
from veo_async.protocol.callbacks import VERIFIER_LABEL, token_of
from veo_async.settings import ApiKey

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
NEVER = PollPolicy(interval=300.0, first=300.0)
PROMPT = "a paper boat"
VERIFIER = ApiKey("a key").derived(VERIFIER_LABEL)
TOKEN = token_of(VERIFIER, b"n" * 16)


@contextmanager
def child(*arguments: str) -> Generator[tuple["subprocess.Popen[str]", str]]:
    """Run the program; yields it and the prefix that it serves."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.flows.webhook_child", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        yield program, program.stdout.readline().strip()
    finally:
        program.stdin.close()
        try:
            program.wait(20)
        finally:
            program.kill()
            program.wait()
            program.stdout.close()


def rows(inbox: Path) -> list[tuple[str, str]]:
    """Return what an inbox holds, as another program sees it."""
    if not inbox.exists():
        return []
    with contextlib.closing(sqlite3.connect(inbox, timeout=20)) as db:
        try:
            return db.execute("SELECT token, task_id FROM callbacks ORDER BY number").fetchall()
        except sqlite3.OperationalError:  # it is being made
            return []


@pytest.mark.parametrize("kind", ["poked", "far", "blind"])
async def test_a_callback_that_reaches_another_process_wakes_the_one_that_waits(
    short_path: Path, kind: str
) -> None:
    folder = short_path / ("a" * 90) if kind == "far" else short_path
    folder.mkdir(exist_ok=True)
    inbox = folder / "inbox.db"
    if kind == "blind":
        (short_path / "inbox.db.members").touch()  # where the sockets' folder would be
    with child("serve", str(inbox)) as (_, prefix):
        async with (
            service() as sim,
            client_of(
                sim, webhooks=WebhookReceiver(inbox=inbox), callback_url=prefix, poll=NEVER
            ) as veo,
            aiohttp.ClientSession() as session,
        ):
            with anyio.fail_after(20):
                for number in range(3):
                    assert (await veo.generate(f"boat {number}")).url
            assert sim.ledger.requests["record-info"] == 3
            guess = token_of(VERIFIER, b"m" * 16)
            assert await post(session, f"{prefix}/{guess}", flat("a")) == 404
            assert len(rows(inbox)) == 3


async def test_a_lost_answer_is_settled_by_a_callback_to_another_process(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox.db"
    with child("serve", str(inbox)) as (_, prefix):
        async with service(faults=["generate:lose_answer"]) as sim:
            client = {
                "webhooks": WebhookReceiver(inbox=inbox),
                "callback_url": prefix,
                "poll": NEVER,
            }
            prompts = [f"boat {number}" for number in range(3)]
            done = await ran(sim, prompts, tmp_path / "videos", client=client)
            assert done.outcomes == {"downloaded": 3}
            paid_once(sim, prompts)


async def test_what_was_kept_before_a_kill_settles_the_job_in_the_next_run(
    short_path: Path,
) -> None:
    inbox, folder = short_path / "inbox.db", short_path / "videos"
    faults = ["generate:lose_answer", "record-info:hang"]
    async with service(faults=faults) as sim:
        job = {
            "inbox": str(inbox),
            "api_key": sim.api_key,
            "base_url": sim.base_url,
            "directory": str(folder),
            "prompts": [PROMPT],
        }

        def start_and_kill() -> None:
            with child("batch", json.dumps(job)) as (program, _):
                for _ in range(2000):
                    # On the disk, and being asked for: it cannot be settled yet.
                    if rows(inbox) and sim.ledger.requests["record-info"]:
                        break
                    deadline.wait(0.01)
                program.send_signal(signal.SIGKILL)

        deadline = threading.Event()
        await anyio.to_thread.run_sync(start_and_kill)
        assert len(rows(inbox)) == 1
        assert len([*(short_path / "inbox.db.members").iterdir()]) == 1, "the dead one's socket"
        sim.clear_faults()
        receiver = WebhookReceiver(inbox=inbox)
        async with on_aiohttp(receiver) as prefix:
            client = {"webhooks": receiver, "callback_url": prefix, "poll": NEVER}
            done = await ran(sim, [PROMPT, "boat 2"], folder, client=client)
        assert done.outcomes == {"downloaded": 2}
        paid_once(sim, [PROMPT, "boat 2"])
        assert not [*(short_path / "inbox.db.members").iterdir()]


# --- the file


async def test_an_inbox_passes_on_what_others_put(tmp_path: Path) -> None:
    one, other = FileInbox(tmp_path / "inbox.db"), FileInbox(tmp_path / "inbox.db")
    assert isinstance(one, Inbox)
    heard: list[Callback] = []
    one.join(VERIFIER, heard.append)
    try:
        for count, task_id in enumerate(("a", "b", "a"), 1):
            await other.put(Callback(task_id, TOKEN))
            with anyio.fail_after(20):
                while len(heard) < count:
                    await anyio.sleep(0.005)
        assert [callback.task_id for callback in heard] == ["a", "b", "a"]
        await one.put(Callback("c", TOKEN))
        assert await other.task_ids(TOKEN) == ["b", "a", "c"]
        assert len(heard) == 3, "its own are its receiver's business"
        assert await other.recognises(TOKEN)
        assert not await other.recognises(token_of(VERIFIER, b"m" * 16)[::-1])
    finally:
        await one.leave(VERIFIER, heard.append)
        await other.aclose()


async def test_one_token_holds_no_more_than_eight_tasks(tmp_path: Path) -> None:
    inbox = FileInbox(tmp_path / "inbox.db")
    for number in range(20):
        await inbox.put(Callback(f"task {number}", TOKEN))
    assert await inbox.task_ids(TOKEN) == [f"task {number}" for number in range(12, 20)]
    await inbox.aclose()


async def test_old_callbacks_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    inbox = FileInbox(path)
    await inbox.put(Callback("a", TOKEN))
    await inbox.aclose()
    old = (datetime.now(UTC) - timedelta(days=15)).timestamp()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE callbacks SET at = ?", (old,))
        db.commit()
    inbox.join(VERIFIER, print)
    assert await inbox.task_ids(TOKEN) == []
    await inbox.leave(VERIFIER, print)


async def test_a_key_is_known_for_as_long_as_its_client_is_here(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    one, other = FileInbox(path), FileInbox(path)
    one.join(VERIFIER, print)
    try:
        with anyio.fail_after(20):
            while not await one.recognises(TOKEN):
                await anyio.sleep(0.01)
        old = (datetime.now(UTC) - timedelta(days=13)).timestamp()
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as db:
            db.execute("UPDATE verifiers SET at = ?", (old,))
            db.commit()
            with anyio.fail_after(20):
                while db.execute("SELECT at FROM verifiers").fetchall() == [(old,)]:
                    await anyio.sleep(0.02)
        assert await other.recognises(TOKEN)
    finally:
        await one.leave(VERIFIER, print)
        await other.aclose()


async def test_a_client_that_came_while_the_file_was_broken_is_known_once_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "inbox.db"
    path.write_bytes(b"no database at all" * 100)
    one, other = FileInbox(path), FileInbox(path)
    one.join(VERIFIER, print)
    try:
        with anyio.fail_after(20):
            while "inbox.db failed" not in caplog.text:
                await anyio.sleep(0.005)
            path.unlink()
            while not await other.recognises(TOKEN):
                await anyio.sleep(0.05)
    finally:
        await one.leave(VERIFIER, print)
        await other.aclose()


# --- the sockets


def test_only_sockets_are_cleared_away(short_path: Path) -> None:
    folder = short_path / "inbox.db.members"
    folder.mkdir(mode=0o700)
    (folder / "precious").touch()
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(folder / "dead"))
    dead.close()
    with Neighbours(short_path / "inbox.db") as neighbours:
        assert neighbours.sockets
        neighbours.poke()
        assert {each.name for each in folder.iterdir()} - {"precious"} == {
            Path(own.getsockname()).name for own in neighbours.sockets
        }
    assert [each.name for each in folder.iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", ["a link", "open to others"])
def test_a_folder_that_others_may_have_made_is_left_alone(short_path: Path, kind: str) -> None:
    folder = short_path / "inbox.db.members"
    victim = short_path / "victim"
    victim.mkdir(mode=0o700)
    (victim / "precious").touch()
    if kind == "a link":
        folder.symlink_to(victim)
    else:
        victim.rename(folder)
        folder.chmod(0o770)
    with Neighbours(short_path / "inbox.db") as neighbours:
        neighbours.poke()
        assert not neighbours.sockets
        assert [each.name for each in folder.iterdir()] == ["precious"]


def test_an_inbox_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="inbox"):
        WebhookReceiver(inbox=tmp_path / "nowhere" / "inbox.db")


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 server:/ rw\n")
    with pytest.raises(ConfigurationError, match="network file system"):
        FileInbox(tmp_path / "inbox.db", mounts=mounts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_an_inbox_made_before_a_fork_serves_both_processes(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    program = f"""
import asyncio, os
from veo_async import Callback, FileInbox
inbox = FileInbox({str(path)!r})
if os.fork() == 0:
    asyncio.run(inbox.put(Callback("child", "t")))
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
asyncio.run(inbox.put(Callback("parent", "t")))
async def end():
    print(await inbox.task_ids("t"))
    await inbox.aclose()
asyncio.run(end())
"""
    done = await anyio.run_process([sys.executable, "-c", program])
    assert done.stdout.decode().strip() == "['child', 'parent']"
