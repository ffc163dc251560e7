"""Tasks and the files they leave behind."""

import math
from typing import Final

import attrs

from veo_async.simulator import dice
from veo_async.simulator.problems import NO_4K, NO_4K_MARKER
from veo_async.simulator.records import (
    Dialect,
    Failure,
    Footage,
    Kind,
    Order,
    State,
)
from veo_async.simulator.settings import (
    EXTENSION_GAIN,
    FILE_BYTES,
    FRAME_SIZES,
    GENERATION_SECONDS,
    Settings,
    bounds,
)
from veo_async.simulator.storage import Storage, StoredFile

_USUAL_SECONDS: Final = 90.0  # for the progress of a task that never ends


@attrs.define(kw_only=True, eq=False)
class Work:
    """Something that was paid for and takes time.

    Attributes:
        id: The id it is asked for by.
        order: The request.
        created: Service seconds.
        ready: When it is over.
        failure: Why it fails, if it does.
        charge: Number of its payment.
        path: The file.
        origin_path: The 720p original of a larger file.
        whole_path: The film with everything before an extension.
        image_path: The still of a 4K conversion.
        seed: The seed used.
        seconds: Length of the whole film.
        conversions: Those of this video that have its id.
        is_1080p: True once it went through 1080P generation.
    """

    id: str
    order: Order
    created: float
    ready: float
    failure: Failure | None
    charge: int
    path: str
    seed: int
    seconds: float
    origin_path: str | None = None
    whole_path: str | None = None
    image_path: str | None = None
    is_1080p: bool = False
    conversions: "dict[Kind, Work]" = attrs.field(factory=dict["Kind", "Work"], repr=False)

    @property
    def is_job(self) -> bool:
        """True if ``/api/v1/jobs`` made it."""
        return self.order.sent is not None

    @property
    def is_counted(self) -> bool:
        """True if it is one of the tasks that an account may run at once."""
        return not self.order.kind.is_conversion

    def state(self, now: float) -> State:
        """Return the state at `now`."""
        if now < self.ready:
            return State.GENERATING
        return State.SUCCESS if self.failure is None else self.failure.state

    def progress(self, now: float) -> int:
        """Percent of the way there; below 100 until it is over."""
        if now >= self.ready:
            return 100
        whole = self.ready - self.created
        share = (now - self.created) / (_USUAL_SECONDS if math.isinf(whole) else whole)
        return min(99, int(100 * share))


class Studio:
    """Decides how long work takes, how its files are called and what is in them."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._epoch = settings.epoch.timestamp()
        self._is_spec = settings.dialect is Dialect.SPEC

    def task_id(self, number: int) -> str:
        """Return the id of the `number`-th task."""
        name = dice.digest("task", self._settings.seed, number)
        return f"veo_task_{name[:12]}" if self._is_spec else name[:32]

    def generation_seconds(self, order: Order, *draw: object) -> float:
        """Return how long a generation or an extension takes."""
        given = self._settings.generation_seconds
        low, high = bounds(GENERATION_SECONDS[order.model] if given is None else given)
        return dice.between(low, high, "generation", *draw)

    def conversion_seconds(self, kind: Kind, *draw: object) -> float:
        """Return how long a conversion takes."""
        settings = self._settings
        given = settings.upgrade_4k_seconds if kind is Kind.UPGRADE_4K else settings.upgrade_seconds
        return dice.between(*bounds(given), "upgrade", settings.seed, *draw)

    def film_path(self, task_id: str, ready: float) -> str:
        """Return the path of a task's video."""
        if self._is_spec:
            return f"/videos/{task_id}.mp4"
        return f"/v/{task_id}_{self._stamp(ready)}.mp4"

    def conversion_path(self, kind: Kind, task_id: str, ready: float) -> str:
        """Return the path of a converted video."""
        if self._is_spec:
            return f"/videos/{task_id}_1080p.mp4"
        purpose = "upgrade" if kind is Kind.UPGRADE else kind.value
        return f"/p/{dice.digest(purpose, task_id)[:32]}_{self._stamp(ready)}.mp4"

    def conversion_failure(self, kind: Kind, order: Order) -> Failure | None:
        """Return why a conversion fails, if it does."""
        return NO_4K if kind is Kind.UPGRADE_4K and NO_4K_MARKER in order.prompt else None

    def seconds(self, order: Order, base: Work | None) -> float:
        """Return the length of the whole film."""
        if base is not None and order.kind is Kind.EXTEND:
            return base.seconds + EXTENSION_GAIN
        return float(order.duration if base is None else base.order.duration)

    def shoot(self, work: Work) -> None:
        """Put the files of a generation or an extension where they will be once it is over."""
        order, made_at = work.order, work.order.made_at
        self._film(work, work.path, made_at)
        stem = work.path.removesuffix(".mp4")
        turned = self._settings.origin_urls == "array" and order.shape != "16:9"
        if order.resolution != "720p" or turned:
            work.origin_path = f"{stem}_origin.mp4"
            self._film(work, work.origin_path, "720p", shape="16:9" if turned else order.shape)
        if order.kind is Kind.EXTEND and self._settings.extension_urls == "whole":
            work.whole_path = f"{stem}_full.mp4"
            self._film(work, work.whole_path, made_at, seconds=work.seconds)

    def convert(self, work: Work, base: Work) -> None:
        """Put the files of a conversion where they will be once it is over."""
        resolution = work.order.resolution
        self._film(work, work.path, resolution)
        work.origin_path = base.path
        if work.order.kind is Kind.UPGRADE_4K:
            work.image_path = work.path.removesuffix(".mp4") + ".jpg"
            self._film(work, work.image_path, resolution, seconds=0)

    def _stamp(self, ready: float) -> int:
        return 0 if math.isinf(ready) else int(self._epoch + ready)

    def _film(
        self,
        work: Work,
        path: str,
        resolution: str,
        *,
        seconds: float | None = None,
        shape: str | None = None,
    ) -> None:
        order = work.order
        width, height = self._settings.clip or FRAME_SIZES[resolution]
        if (shape or order.shape) == "9:16":
            width, height = height, width
        length = float(order.duration) if seconds is None else seconds
        content: dict[str, object] = {
            "prompt": order.prompt,
            "model": order.model,
            "mode": order.generation_type,
            "images": order.image_urls,
            "watermark": order.watermark,
            "seed": work.seed,
            "resolution": resolution,
        }
        if order.kind is Kind.EXTEND:
            content = {**content, "base": order.base_id, "whole": seconds is not None}
        self._storage.add(
            StoredFile(
                path=path,
                task_id=work.id,
                prompt=order.prompt,
                footage=Footage(
                    width=width,
                    height=height,
                    seconds=length,
                    seed=int(dice.digest("content", *content.values())[:15], 16),
                    size=self._bytes(resolution, length / order.duration),
                ),
                ready=work.ready,
            )
        )

    def _bytes(self, resolution: str, clips: float) -> int | None:
        """Return the size to pad to: a whole film has that of its clips, a still none."""
        if not clips:
            return None
        given = self._settings.video_bytes
        return int(FILE_BYTES[resolution] * clips) if given is None else given
