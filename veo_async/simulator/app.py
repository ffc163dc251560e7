"""The simulator on the network: two origins, served in the running loop or from a thread."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Final, Literal, Self

from aiohttp import web

from veo_async.simulator.api import ApiHost
from veo_async.simulator.faults import Fault
from veo_async.simulator.files import FileHost
from veo_async.simulator.footage import Projector
from veo_async.simulator.records import Dialect, Ledger
from veo_async.simulator.settings import Settings
from veo_async.simulator.webhooks import Postman
from veo_async.simulator.world import World

_DEFAULTS: Final = Settings()

_ACCEPTING_TURNS: Final = 5  # of the loop, until an accepted connection has its handler
_BACKLOG: Final = 1024
"""Connections the kernel queues: a burst of clients must not run into retransmits."""

_GRACE_SECONDS: Final = 1.0
"""For answers under way when the simulator stops."""


class Simulator:
    """A local service that speaks like the real one, renders real files and charges play money.

    ``async with Simulator() as sim:`` serves in the running loop, ``with Simulator() as sim:``
    from a thread of its own. Entering it again after leaving goes on with the same tasks, money
    and ports, as a service does after an outage.

    Prompts that contain a marker fail once their generation time is over, free of charge:
    ``[fail]``, ``[early]``, ``[error]``, ``[timeout]``, ``[policy]``, ``[language]``,
    ``[image]``, ``[unsafe]``, ``[audio]``, ``[person]``, ``[rejected]`` (the live dialect shows
    the texts of the live document, section 4). ``[stuck]`` never finishes. ``[no4k]`` makes a
    video that cannot be converted to 4K. An image URL on its own file host that is not there (any
    more), or whose name says another kind of image than it is, has the effect of ``[image]``;
    other hosts are not asked.

    Args:
        dialect: ``spec`` (the spec's paths, fields and prices), ``live`` (the live document's,
            both its families of calls) or ``jobs`` (the newer of them alone, as once the older
            one is gone). Uploads and the credit call answer in all three.
        time_scale: Service seconds per real second, for everything that takes time here: the
            generations, the lives of URLs and records, rates, delays. 0 stands still, and only
            `advance` moves it.
        credits: What the account has at first.
        max_tasks: Tasks the account may run at once; one more is answered with 429.
        seed: Decides task ids, durations and every other draw.
        faults: What goes wrong, as `Fault` values or their text form.
        port: Port of the API; 0 lets the system choose.
        files_port: Port of the file host.
        host: Address to serve on.
        api_key: The one key that is accepted.
        clip: Width and height of every landscape file, instead of the real ones of its
            resolution; small ones render faster.
        video_bytes: Size of every file, padded to; None for 3 MB at 720p, 8 MB at 1080p. 0 for
            the smallest.
        generation_seconds: How long a generation takes: seconds, or (shortest, longest). None
            for what is usual for the model.
        upgrade_seconds: The same for a 1080P conversion.
        upgrade_4k_seconds: The same for a 4K conversion.
        url_seconds: Life of a file URL that expires: that of the spec's results, and of what the
            live download-url hands out.
        result_urls_expire: Whether the links of results are such. None for what the dialect has:
            the live ones are without a query, the same at every call, and work as long as the
            file is kept.
        create_rate: (requests, seconds): more creates than that are answered with 429; None for
            no such limit.
        prompt_limit: Characters of a prompt; None for no limit.
        running_as: What the spec dialect says of a running task: ``status`` (HTTP 200 and status
            0) or ``code`` (code 400, "Processing").
        error_status: Where the live dialect has its errors: ``body`` (HTTP 200) or ``http``.
        failure_in: Where the live dialect has a failed generation: ``record`` or ``envelope``.
        converting_code: What the live dialect says while it converts: 400, 422 or 500.
        times: How the live record-info writes times: ``millis``, ``text`` (no zone; it is UTC)
            or ``iso``.
        result_urls: Where the live dialect has links: ``list``, or ``text``, the older shape (at
            data level, as JSON text; in callbacks as JSON text, too).
        origin_urls: What the live dialect shows where there is no original and no whole film:
            ``null`` or ``absent``; ``array`` makes a 16:9 original for every video of another
            ratio.
        unknown_task: What the live dialect answers to an unknown id: code ``422`` in the recorded
            words, the documented ``record is null``, or ``null`` (a poll is answered with code
            200 and no data).
        record_fields: The fields of `/api/v1/jobs/recordInfo`: as ``recorded`` of another model,
            or as ``documented``.
        requires_user_agent: Whether a live request without a User-Agent is refused (403).
        extension_urls: Whether a finished extension has the ``whole`` film in `fullResultUrls`,
            or nothing but its ``segment``.
        callbacks: Which copy of the live document its callbacks follow: ``D2`` (no `promptJson`),
            ``D3`` (an object), ``D4`` (JSON text), ``D6`` (with `creditsConsumed`), or
            ``schema``, the shapes of its OpenAPI blocks.
        retry_after: Seconds in the Retry-After header of a 429; None for no header.
        webhook_key: Signs webhooks when given.
        webhook_spacing: Service seconds between attempts to deliver one.
        epoch: The date at service second 0; None for the present.

    Raises:
        ValueError: For an option that makes no sense.
    """

    def __init__(
        self,
        *,
        dialect: Literal["spec", "live", "jobs"] | Dialect = _DEFAULTS.dialect,
        time_scale: float = 1.0,
        credits: float = _DEFAULTS.credits,  # noqa: A002  the service's word
        max_tasks: int = _DEFAULTS.max_tasks,
        seed: int = _DEFAULTS.seed,
        faults: Iterable[Fault | str] = (),
        port: int = 0,
        files_port: int = 0,
        host: str = "127.0.0.1",
        api_key: str = _DEFAULTS.api_key,
        clip: tuple[int, int] | None = _DEFAULTS.clip,
        video_bytes: int | None = _DEFAULTS.video_bytes,
        generation_seconds: float | tuple[float, float] | None = _DEFAULTS.generation_seconds,
        upgrade_seconds: float | tuple[float, float] = _DEFAULTS.upgrade_seconds,
        upgrade_4k_seconds: float | tuple[float, float] = _DEFAULTS.upgrade_4k_seconds,
        url_seconds: float = _DEFAULTS.url_seconds,
        result_urls_expire: bool | None = _DEFAULTS.result_urls_expire,
        create_rate: tuple[int, float] | None = _DEFAULTS.create_rate,
        prompt_limit: int | None = _DEFAULTS.prompt_limit,
        running_as: Literal["status", "code"] = _DEFAULTS.running_as,
        error_status: Literal["body", "http"] = _DEFAULTS.error_status,
        failure_in: Literal["record", "envelope"] = _DEFAULTS.failure_in,
        converting_code: Literal[400, 422, 500] = _DEFAULTS.converting_code,
        times: Literal["millis", "text", "iso"] = _DEFAULTS.times,
        result_urls: Literal["list", "text"] = _DEFAULTS.result_urls,
        origin_urls: Literal["null", "absent", "array"] = _DEFAULTS.origin_urls,
        unknown_task: Literal["422", "record is null", "null"] = _DEFAULTS.unknown_task,
        record_fields: Literal["recorded", "documented"] = _DEFAULTS.record_fields,
        requires_user_agent: bool = _DEFAULTS.requires_user_agent,
        extension_urls: Literal["whole", "segment"] = _DEFAULTS.extension_urls,
        callbacks: Literal["D2", "D3", "D4", "D6", "schema"] = _DEFAULTS.callbacks,
        retry_after: float | None = _DEFAULTS.retry_after,
        webhook_key: str | None = _DEFAULTS.webhook_key,
        webhook_spacing: float = _DEFAULTS.webhook_spacing,
        epoch: datetime | None = None,
    ) -> None:
        settings = Settings(
            dialect=dialect,
            credits=credits,
            max_tasks=max_tasks,
            seed=seed,
            api_key=api_key,
            clip=clip,
            video_bytes=video_bytes,
            generation_seconds=generation_seconds,
            upgrade_seconds=upgrade_seconds,
            upgrade_4k_seconds=upgrade_4k_seconds,
            url_seconds=url_seconds,
            result_urls_expire=result_urls_expire,
            create_rate=create_rate,
            prompt_limit=prompt_limit,
            running_as=running_as,
            error_status=error_status,
            failure_in=failure_in,
            converting_code=converting_code,
            times=times,
            result_urls=result_urls,
            origin_urls=origin_urls,
            unknown_task=unknown_task,
            record_fields=record_fields,
            requires_user_agent=requires_user_agent,
            extension_urls=extension_urls,
            callbacks=callbacks,
            retry_after=retry_after,
            webhook_key=webhook_key,
            webhook_spacing=webhook_spacing,
            epoch=epoch,
        )
        script = [Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults]
        self._world = World(settings, time_scale=time_scale, faults=script)
        self._time_scale = time_scale
        self._host = host
        self._ports = [port, files_port]
        self._projector = Projector()
        self._resources: contextlib.AsyncExitStack | None = None
        self._thread: _Thread | None = None

    # -- what a test reads -------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """Origin of the API, ``http://127.0.0.1:PORT``; empty before the simulator first serves."""
        return self._world.api_url

    @property
    def files_url(self) -> str:
        """Origin of the file host."""
        return self._world.files_url

    @property
    def api_key(self) -> str:
        """The key that is accepted."""
        return self._world.settings.api_key

    @property
    def time_scale(self) -> float:
        """Service seconds per real second."""
        return self._time_scale

    @property
    def now(self) -> float:
        """Service seconds since the simulator first served."""
        return self._world.clock.now()

    @property
    def ledger(self) -> Ledger:
        """The books as they are now."""
        return self._world.ledger()

    # -- what a test does --------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let `seconds` of service time pass at once; works from any thread.

        Raises:
            ValueError: For a negative number.
        """
        self._world.clock.advance(seconds)

    def add_fault(self, fault: Fault | str) -> None:
        """Put one more fault into the script; it counts requests from now on.

        Raises:
            ValueError: For a text that is no fault.
        """
        with self._world.lock:
            self._world.faults.add(Fault.parse(fault) if isinstance(fault, str) else fault)

    def clear_faults(self) -> None:
        """Drop all faults."""
        with self._world.lock:
            self._world.faults.clear()

    # -- lifetime ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Serve in the running loop.

        Raises:
            OSError: A port is taken.
            RuntimeError: It serves already.
        """
        if self._resources is not None:
            raise RuntimeError("this Simulator serves already; make another one")
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack, self._resources = self._resources, None
        if stack is not None:
            await stack.aclose()

    def __enter__(self) -> Self:
        """Serve from a thread with a loop of its own.

        Raises:
            OSError: A port is taken.
            RuntimeError: It serves already.
        """
        if self._thread is not None:
            raise RuntimeError("this Simulator serves already; make another one")
        thread = _Thread(self)
        thread.begin()
        self._thread = thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        world = self._world
        sockets: list[socket.socket] = []
        for index, port in enumerate(self._ports):
            sockets.append(stack.enter_context(_listen(self._host, port)))
            self._ports[index] = sockets[-1].getsockname()[1]
        shown = f"[{self._host}]" if ":" in self._host else self._host
        world.api_url, world.service.storage.base_url = (
            f"http://{shown}:{port}" for port in self._ports
        )
        self._projector.open()
        stack.callback(self._projector.close)
        api = ApiHost(world, time_scale=self._time_scale)
        apps = (api.app(), FileHost(world, self._projector).app())
        for app, listener in zip(apps, sockets, strict=True):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
            await runner.setup()
            stack.push_async_callback(_close, runner, listener)
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        world.clock.start()
        stack.callback(world.clock.stop)  # first of all: it wakes every waiting handler
        postman = Postman(world, time_scale=self._time_scale)
        # The one task without a group: it belongs to this object, which may be left by another
        # task than the one that entered it, and `_stop` below ends it.
        task = asyncio.create_task(postman.run())  # noqa: TID251
        stack.push_async_callback(_stop, task)


class _Thread(threading.Thread):
    """Runs a simulator in a loop of its own."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(name="veo-simulator", daemon=True)
        self._simulator = simulator
        self._serving = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._enough: asyncio.Event | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start, and return once the simulator serves or has failed to."""
        self.start()
        self._serving.wait()
        if self._error is not None:
            self.join()
            raise self._error

    def end(self) -> None:
        """Stop, and return once everything is cleaned up."""
        if self._loop is not None and self._enough is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                self._loop.call_soon_threadsafe(self._enough.set)
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Serve until `end`."""
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  raised again where the thread was started
            self._error = error
        finally:
            self._serving.set()

    async def _serve(self) -> None:
        self._loop, self._enough = asyncio.get_running_loop(), asyncio.Event()
        async with self._simulator:
            self._serving.set()
            await self._enough.wait()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = f"cannot serve on port {port} of {host} ({error.strerror}): choose another, or 0"
        raise OSError(error.errno, reason) from error
    listener.setblocking(False)  # noqa: FBT003  its only form
    return listener


async def _close(runner: web.AppRunner, listener: socket.socket) -> None:
    # asyncio loses the socket of a connection that was accepted a moment before its server closes,
    # so nothing is accepted any more, and what was gets the turns that it needs.
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(_ACCEPTING_TURNS):
        await asyncio.sleep(0)
    await runner.cleanup()


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
