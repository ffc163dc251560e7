"""What a pass over an input finds out before anything is paid: its price, and its images."""

from functools import lru_cache
from typing import Final

import attrs

from veo_async.cli.errand import is_live_only
from veo_async.cli.inputs import Check, Row
from veo_async.images import check_images
from veo_async.models import Model
from veo_async.prices import Prices
from veo_async.request import VideoRequest, local_images

__all__: list[str] = []

_SEEN_IMAGES: Final = 1000  # files that rows have in common, which are looked at once


@attrs.define
class Estimate:
    """What the good rows of an input cost.

    Attributes:
        prices: The price list.
        credits: At most, by it.
        tasks: How many paid tasks they take; a film takes several.
        needs_live: Whether one of them asks for what only the live service has.
        models: How many rows want which model.
        repeated: Rows whose key stands for another row.
    """

    prices: Prices
    credits: int = 0
    tasks: int = 0
    needs_live: bool = False
    models: dict[Model, int] = attrs.field(factory=dict[Model, int])
    repeated: list[str] = attrs.field(factory=list[str])
    _keys: set[str] = attrs.field(factory=set[str])

    def add(self, row: Row) -> None:
        """Take a row."""
        if row.key is not None and row.key in self._keys:
            self.repeated.append(f"{row.place}: key {row.key!r} stands in an earlier row as well")
        elif row.key is not None:
            self._keys.add(row.key)
        if row.request is not None:
            self.credits += self.prices.of_film(row.request)
            self.tasks += 1 + len(row.request.extensions)
            self.needs_live = self.needs_live or is_live_only(row.request)
            self.models[row.request.model] = self.models.get(row.request.model, 0) + 1

    def told(self, videos: int) -> str:
        """Return what so many good rows come to."""
        tasks = f" in {self.tasks} paid tasks" if self.tasks > videos else ""
        return f"{videos} videos{tasks}, at most {self.credits} credits"

    @property
    def usual_model(self) -> Model:
        """What most rows want."""
        return max(self.models, key=lambda model: self.models[model], default=Model.FAST)


def image_check() -> Check:
    """Return what makes sure that the images of a request can be uploaded."""

    @lru_cache(_SEEN_IMAGES)
    def look(path: str) -> None:
        check_images([path])

    def check(request: VideoRequest) -> None:
        for path in local_images(request.image_urls):
            look(path)

    return check
