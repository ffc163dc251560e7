"""Downloads from a real nginx, through a proxy that breaks connections: the second opinion."""

# ruff: noqa: ASYNC240  # a test may look at the disk

import asyncio
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tests.faults.fileserver import QUICK, Break, BreakingProxy, How, movie, video
from veo_async import ClientClosedError, Timeouts, VeoClient

pytestmark = pytest.mark.anyio

SIZE = 3_000_000
FILM = movie(SIZE)
OTHER = movie(SIZE, seed=2)

CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 128; }}
http {{
  access_log {folder}/access;
  log_format seen '$request_method $uri $status $http_range|$http_if_range';
  access_log {folder}/seen seen;
  types {{ video/mp4 mp4; text/html html; }}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  sendfile off; keepalive_timeout 0;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/files;
    location /slow/ {{ alias {folder}/files/; limit_rate 4m; }}
    location /plain/ {{ alias {folder}/files/; max_ranges 0; etag off; }}
    location /moved/ {{ return 302 /$arg_to; }}
    location /gone/ {{ return 410; }}
  }}
}}
"""


@attrs.frozen
class Nginx:
    folder: Path
    port: int

    def put(self, body: bytes, name: str = "v.mp4") -> None:
        """Replace a file as publishers do: whole, and at a new date, which makes a new ETag."""
        made = self.folder / "files" / f"{name}.new"
        made.write_bytes(body)
        os.utime(made, (0, len(self.seen) + hash(body) % 10**9))
        made.replace(self.folder / "files" / name)

    @property
    def seen(self) -> list[str]:
        log = self.folder / "seen"
        return log.read_text().splitlines() if log.exists() else []

    def starts(self) -> list[int]:
        """Return the first byte of each request that was logged."""
        ranges = [line.split(" ", 3)[3].partition("|")[0] for line in self.seen]
        return [0 if one == "-" else int(one.removeprefix("bytes=").rstrip("-")) for one in ranges]


@pytest.fixture
def nginx(
    tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str, str], str], unused_tcp_port: int
) -> Iterator[Nginx]:
    program = tool("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    (folder / "files").mkdir()
    config = folder / "conf"
    config.write_text(CONFIG.format(folder=folder, port=unused_tcp_port))
    child = subprocess.Popen(
        [program, "-c", str(config), "-e", f"{folder}/errors", "-g", "user root;"]
    )
    try:
        yield Nginx(folder, unused_tcp_port)
    finally:
        child.terminate()
        child.wait()


async def ready(nginx: Nginx) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise AssertionError((nginx.folder / "errors").read_text())


def client(port: int, stall: float = 5) -> VeoClient:
    return VeoClient(
        "key",
        base_url=f"http://127.0.0.1:{port}",
        retry=QUICK,
        timeouts=Timeouts(connect=2, response=5, stall=stall),
    )


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_connections_that_break(tmp_path: Path, nginx: Nginx, how: How) -> None:
    await ready(nginx)
    nginx.put(FILM)
    dice = random.Random(3)
    edges = [0, 1, 100, 320, 350, 65_536, 1 << 20, SIZE, SIZE + 200]
    async with BreakingProxy(nginx.port).serving() as proxy, client(proxy.port) as veo:
        for after in [*edges, *(dice.randrange(SIZE) for _ in range(6))]:
            proxy.script = [Break(after, how), Break(dice.randrange(SIZE), how)]
            saved = await veo.download(
                video(f"http://127.0.0.1:{proxy.port}/v.mp4"), tmp_path / "v.mp4"
            )
            assert saved.path.read_bytes() == FILM
    assert len([start for start in nginx.starts() if start]) > 8
    assert " 206 " in "".join(nginx.seen)


@pytest.mark.parametrize("how", ["hang", "drip"])
async def test_connections_that_stall(tmp_path: Path, nginx: Nginx, how: How) -> None:
    await ready(nginx)
    nginx.put(FILM)
    plan = Break(1_500_000, how)
    async with BreakingProxy(nginx.port, plan).serving() as proxy, client(proxy.port, 0.3) as veo:
        saved = await veo.download(
            video(f"http://127.0.0.1:{proxy.port}/v.mp4"), tmp_path / "v.mp4"
        )
    assert saved.path.read_bytes() == FILM
    assert saved.attempts == 2
    assert nginx.starts()[-1] > 0


@pytest.mark.parametrize("folder", ["", "slow/", "plain/"])
async def test_a_file_replaced_between_two_connections(
    tmp_path: Path, nginx: Nginx, folder: str
) -> None:
    await ready(nginx)
    async with BreakingProxy(nginx.port).serving() as proxy, client(proxy.port) as veo:
        for after, body in ((1_000_000, OTHER), (2_500_000, FILM), (700, OTHER)):
            nginx.put(FILM if body == OTHER else OTHER)
            proxy.script = [Break(after, "reset")]
            link = f"http://127.0.0.1:{proxy.port}/{folder}v.mp4"
            work = asyncio.create_task(veo.download(video(link), tmp_path / "v.mp4"))
            while proxy.script:
                await asyncio.sleep(0)
            nginx.put(body)
            saved = await work
            # Whichever of the two it is, it is one of them from its first byte to its last.
            assert saved.path.read_bytes() in {FILM, OTHER}
            assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


async def test_a_part_outlives_its_client_but_not_its_file(tmp_path: Path, nginx: Nginx) -> None:
    await ready(nginx)
    target, link = tmp_path / "v.mp4", f"http://127.0.0.1:{nginx.port}/slow/v.mp4"
    for body in (FILM, OTHER):
        nginx.put(FILM)
        veo = client(nginx.port)
        work = asyncio.create_task(veo.download(video(link), target))
        while not target.with_name("v.mp4.part.json").exists() or not (
            target.with_name("v.mp4.part").stat().st_size
        ):
            await asyncio.sleep(0.005)
        await veo.aclose()
        with pytest.raises(ClientClosedError):
            await work
        left = target.with_name("v.mp4.part").stat().st_size
        if body == OTHER:
            nginx.put(body)
        before = len(nginx.seen)
        async with client(nginx.port) as again:
            saved = await again.download(video(f"http://127.0.0.1:{nginx.port}/v.mp4"), target)
        assert saved.path.read_bytes() == body
        starts = nginx.starts()[before:]
        assert starts[-1] == (left if body == FILM else 0)
        target.unlink()


async def test_redirects_and_dead_links(tmp_path: Path, nginx: Nginx) -> None:
    await ready(nginx)
    nginx.put(FILM)
    here = f"http://127.0.0.1:{nginx.port}"
    async with client(nginx.port) as veo:
        saved = await veo.download(video(f"{here}/moved/?to=v.mp4"), tmp_path / "v.mp4")
        assert saved.path.read_bytes() == FILM
        for dead in ("gone/x", "missing.mp4"):
            with pytest.raises(Exception, match=r"404|410|Found|not"):  # nginx is no API either
                await veo.download(video(f"{here}/{dead}"), tmp_path / "dead.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


async def test_curl_agrees(tmp_path: Path, nginx: Nginx, tool: Callable[[str, str], str]) -> None:
    await ready(nginx)
    nginx.put(FILM)
    link = f"http://127.0.0.1:{nginx.port}/v.mp4"
    async with client(nginx.port) as veo:
        await veo.download(video(link), tmp_path / "v.mp4")
    arguments = [tool("curl", "curl"), "-sSo", str(tmp_path / "curl.mp4"), link]
    child = await asyncio.create_subprocess_exec(*arguments)
    assert await child.wait() == 0
    assert (tmp_path / "curl.mp4").read_bytes() == (tmp_path / "v.mp4").read_bytes()
