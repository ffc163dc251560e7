"""Webhooks: delivered to loopback receivers only, signed, and repeated when nobody answers."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from veo_async.simulator.faults import Hits
from veo_async.simulator.records import Callback, Delivery, Endpoint
from veo_async.simulator.settings import (
    WEBHOOK_ATTEMPTS,
    WEBHOOK_TIMEOUT,
    WEBHOOK_TIMEOUT_FLOOR,
)
from veo_async.simulator.world import World

_log: Final = logging.getLogger(__name__)


def sign(task_id: str, timestamp: str, key: str) -> str:
    """Return the signature of a webhook (live document 2.9; the body is not covered)."""
    text = f"{task_id}.{timestamp}".encode()
    return base64.b64encode(hmac.digest(key.encode(), text, hashlib.sha256)).decode()


def is_loopback(url: str) -> bool:
    """True for URLs on this machine: the only ones a test tool may call."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Postman:
    """Watches for due webhooks and delivers them.

    Args:
        world: The account whose tasks call back.
        time_scale: Service seconds per real second, for the receiver's time limit.
    """

    def __init__(self, world: World, *, time_scale: float) -> None:
        self._world = world
        limit = WEBHOOK_TIMEOUT / time_scale if time_scale else WEBHOOK_TIMEOUT
        self._timeout = aiohttp.ClientTimeout(total=max(limit, WEBHOOK_TIMEOUT_FLOOR))

    async def run(self) -> None:
        """Deliver until cancelled."""
        world = self._world
        async with (
            aiohttp.ClientSession(timeout=self._timeout) as session,
            asyncio.TaskGroup() as deliveries,
        ):
            while True:
                with world.lock:
                    due = world.service.take_due(world.clock.now())
                    following = world.service.next_finish()
                for callback in due:
                    if is_loopback(callback.url):
                        deliveries.create_task(self._deliver(session, callback))
                    else:
                        _log.warning("webhook of %s not sent: not loopback", callback.task_id)
                await world.clock.pause(following)

    async def _deliver(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        world = self._world
        with world.lock:
            hits = world.faults.draw(Endpoint.WEBHOOK, f"{callback.prompt} {callback.url}")
        if hits.replacing is not None:  # "drop" is the only one
            return
        if hits.delay:
            await world.clock.sleep(hits.delay)
        for _ in range(2 if "duplicate" in hits else 1):
            await self._insist(session, callback, hits)

    async def _insist(self, session: aiohttp.ClientSession, callback: Callback, hits: Hits) -> None:
        """Try until HTTP 200, four times at most (live document 2.8)."""
        world = self._world
        for attempt in range(1, WEBHOOK_ATTEMPTS + 1):
            if attempt > 1:
                await world.clock.sleep(world.settings.webhook_spacing)
            world.count(Endpoint.WEBHOOK)
            at = world.clock.now()
            status = await self._post(session, callback, hits)
            with world.lock:
                world.deliveries.append(
                    Delivery(
                        task_id=callback.task_id,
                        url=callback.url,
                        attempt=attempt,
                        at=at,
                        status=status,
                    )
                )
            if status == HTTPStatus.OK:
                return

    async def _post(
        self, session: aiohttp.ClientSession, callback: Callback, hits: Hits
    ) -> int | None:
        try:
            async with session.post(
                callback.url,
                data=json.dumps(callback.body).encode(),
                headers=self._headers(callback.task_id, hits),
                allow_redirects=False,
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None

    def _headers(self, task_id: str, hits: Hits) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json"}
        key = self._world.settings.webhook_key
        if key is not None:
            # The receiver compares with its own clock, so this is real time, not service time.
            timestamp = str(int(datetime.now(UTC).timestamp()))
            signed = f"{task_id}?" if "bad_signature" in hits else task_id
            headers["X-Webhook-Timestamp"] = timestamp
            headers["X-Webhook-Signature"] = sign(signed, timestamp, key)
        return headers
