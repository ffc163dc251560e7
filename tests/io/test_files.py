"""`PartialFile`: a file that is whole under its name, or not there."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fileserver import movie
from veo_async import DownloadError
from veo_async.files import PartialFile, prepare_folder, target_of
from veo_async.protocol.ranges import Held

pytestmark = pytest.mark.anyio

FILM = movie(3000)
HELD = Held(etag='"v1"', total=len(FILM))


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


async def opened(target: Path, executor: ThreadPoolExecutor, source: str = "s") -> PartialFile:
    part = PartialFile(target, source, executor)
    await part.open()
    return part


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("overwrite", [True, False])
async def test_from_the_first_byte_to_the_name(
    tmp_path: Path, executor: ThreadPoolExecutor, overwrite: bool
) -> None:
    part = await opened(tmp_path / "a" / "v.mp4", executor)
    await part.note(HELD)
    assert names(tmp_path / "a") == ["v.mp4.part", "v.mp4.part.json"]
    for start in range(0, len(FILM), 700):
        assert await part.write(FILM[start : start + 700]) is None
    assert part.verdict(length_known=True) is None
    assert await part.commit(overwrite=overwrite) == hashlib.sha256(FILM).hexdigest()
    await part.aclose(keep=True)
    await part.aclose(keep=False)
    assert names(tmp_path / "a") == ["v.mp4"]
    assert (tmp_path / "a" / "v.mp4").read_bytes() == FILM


async def test_the_mode_is_what_the_umask_leaves(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    before = os.umask(0o027)
    try:
        part = await opened(tmp_path / "v.mp4", executor)
        await part.commit(overwrite=True)
    finally:
        os.umask(before)
    assert (tmp_path / "v.mp4").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("keep", "noted", "written"),
    [(True, True, True), (True, True, False), (True, False, True), (False, True, True)],
)
async def test_only_what_can_be_gone_on_from_is_kept(
    tmp_path: Path, executor: ThreadPoolExecutor, keep: bool, noted: bool, written: bool
) -> None:
    left = 2 if keep and noted and written else 0
    part = await opened(tmp_path / "v.mp4", executor)
    if noted:
        await part.note(HELD)
    if written:
        await part.write(FILM[:500])
    await part.aclose(keep=keep)
    assert len(names(tmp_path)) == left
    again = PartialFile(tmp_path / "v.mp4", "s", executor)
    held = await again.open()
    assert held == (Held(size=500, etag='"v1"', total=len(FILM)) if left else Held())
    await again.write(FILM[held.size :])
    assert again.verdict(length_known=True) is None
    assert await again.commit(overwrite=True) == hashlib.sha256(FILM).hexdigest()


async def test_an_answer_without_an_etag_takes_the_record_away(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    part = await opened(tmp_path / "v.mp4", executor)
    await part.note(HELD)
    await part.start_over()
    await part.note(Held(total=len(FILM)))
    assert names(tmp_path) == ["v.mp4.part"]
    await part.aclose(keep=True)
    assert names(tmp_path) == []


async def test_one_writer_at_a_time(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    first = await opened(tmp_path / "v.mp4", executor)
    await first.note(HELD)
    await first.write(FILM[:100])
    second = PartialFile(tmp_path / "v.mp4", "s", executor)
    with pytest.raises(DownloadError, match="another download"):
        await second.open()
    await second.aclose(keep=False)
    assert len(names(tmp_path)) == 2
    await first.aclose(keep=True)
    assert (await second.open()).size == 100
    await second.aclose(keep=False)


async def test_a_commit_that_was_killed_half_way(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    """Linked under its name and not yet unlinked: the bytes are the finished file's."""
    target = tmp_path / "v.mp4"
    part = await opened(target, executor)
    await part.note(HELD)
    await part.write(FILM)
    await part.aclose(keep=True)
    target.hardlink_to(tmp_path / "v.mp4.part")
    again = PartialFile(target, "s", executor)
    assert (await again.open()).size == 0
    await again.write(b"\0" * 100)
    await again.aclose(keep=False)
    assert target.read_bytes() == FILM


async def test_a_name_that_was_taken_meanwhile(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    target = tmp_path / "v.mp4"
    part = PartialFile(target, "s", executor)
    await part.refuse_existing()
    await part.open()
    await part.write(FILM)
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        await part.commit(overwrite=False)
    with pytest.raises(FileExistsError):
        await part.refuse_existing()
    assert target.read_bytes() == b"mine"
    await part.commit(overwrite=True)
    assert target.read_bytes() == FILM


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("step", ["open", "note", "write", "start_over", "commit", "aclose"])
async def test_a_cancelled_step_is_done_when_it_returns(
    tmp_path: Path, executor: ThreadPoolExecutor, step: str, turns: int
) -> None:
    part = PartialFile(tmp_path / "v.mp4", "s", executor)
    if step != "open":
        await part.open()
        await part.note(HELD)
    blocked = threading.Event()
    for _ in range(2):
        executor.submit(blocked.wait)
    work: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "open": part.open,
        "note": lambda: part.note(Held(etag='"v2"')),
        "write": lambda: part.write(FILM),
        "start_over": part.start_over,
        "commit": lambda: part.commit(overwrite=True),
        "aclose": lambda: part.aclose(keep=False),
    }
    task = asyncio.create_task(work[step]())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    blocked.set()
    await asyncio.wait({task})
    assert task.cancelled()
    before = [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    await asyncio.get_running_loop().run_in_executor(executor, str)
    assert before == [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    await part.aclose(keep=False)
    again = await opened(tmp_path / "v.mp4", executor)
    await again.aclose(keep=False)


COMMIT = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from veo_async.files import PartialFile
from veo_async.protocol.ranges import Held

async def main(target, overwrite):
    with ThreadPoolExecutor(1) as executor:
        part = PartialFile(Path(target), "s", executor)
        await part.open()
        await part.note(Held(etag='"v1"', total=9))
        await part.write(b"some data")
        await part.commit(overwrite=overwrite == "True")
        await part.aclose(keep=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("overwrite", [True, False])
async def test_the_kernel_sees_the_steps_in_their_order(
    tmp_path: Path, tool: Callable[[str, str], str], overwrite: bool
) -> None:
    """Written, synced, renamed, folder synced, and only then the record is taken away."""
    trace = tmp_path / "trace"
    target = tmp_path / "folder" / "v.mp4"
    calls = "trace=write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
    child = await asyncio.create_subprocess_exec(
        *[tool("strace", "strace"), "-f", "-y", "-e", calls, "-o", str(trace)],
        *[sys.executable, "-c", COMMIT, str(target), str(overwrite)],
        stderr=subprocess.PIPE,
    )
    _, errors = await child.communicate()
    if child.returncode and b"PTRACE" in errors:
        pytest.skip("this host does not allow strace")
    assert child.returncode == 0, errors
    seen = [line.split(" ", 1)[1].strip() for line in trace.read_text().splitlines()]
    kept = [line for line in seen if "/folder" in line]
    part, folder = re.escape(f"{target}.part"), re.escape(str(target.parent))
    renamed = rf"rename.*{part}.*{re.escape(str(target))}" if overwrite else rf"link.*{part}"
    order = [
        rf"write\(\d+<{part}>, \"some data\"",
        rf"fsync\(\d+<{part}>",
        renamed,
        rf"fsync\(\d+<{folder}>",
        rf"unlink.*{part}\.json",
    ]
    places = [
        max(number for number, line in enumerate(kept) if re.match(step, line)) for step in order
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("to", "expected"),
    [("", "t1.mp4"), ("new/", "new/t1.mp4"), ("v", "v"), ("n" * 300, "n" * 300), ("a\0b", "a\0b")],
)
def test_where_a_video_goes(tmp_path: Path, to: str, expected: str) -> None:
    assert target_of(f"{tmp_path}/{to}", "t1") == Path(f"{tmp_path}/{expected}")


@pytest.mark.parametrize("task_id", ["../x", "a/b", "..", "", "\xe9", "x" * 65, "CON\0", "a b"])
def test_an_id_is_no_path(tmp_path: Path, task_id: str) -> None:
    made = target_of(tmp_path, task_id)
    assert made.parent == tmp_path
    assert re.fullmatch(r"veo_[0-9a-f]{32}\.mp4", made.name)


def test_a_folder_is_made_or_refused(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="choose another folder"):
        prepare_folder(tmp_path / "file")
