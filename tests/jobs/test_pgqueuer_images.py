"""Jobs of a queue whose images are files: they stand where the worker is."""

from pathlib import Path

import pytest

from tests.flows.batches import paid_once, service
from tests.flows.uploads import UploadHost, image
from tests.jobs.test_pgqueuer import is_done, is_held, queue, stood, working
from veo_async.integrations.pgqueuer import enqueue
from veo_async.integrations.pgqueuer_queue import Connection

pytestmark = pytest.mark.anyio
__all__ = ["queue"]


async def test_an_image_is_uploaded_by_the_worker_and_one_that_is_missing_is_told(
    tmp_path: Path, dsn: str, queue: Connection
) -> None:
    there, missing = image(tmp_path / "there.png"), tmp_path / "missing.png"
    assert await enqueue(queue, "a", "A boat", image_urls=[there])
    assert await enqueue(queue, "b", "A ship", image_urls=[missing])
    async with UploadHost().serving() as host, service() as sim:
        async with working(sim, tmp_path / "videos", dsn, client={"upload_url": host.url}):
            await stood(queue, "a", is_done)
            await stood(queue, "b", is_held)
        paid_once(sim, ["A boat"])
        assert len(host.arrived) == 1
