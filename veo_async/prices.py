"""What videos cost: the price lists in one table, and a budget that is kept."""

from collections.abc import Mapping
from typing import Final

import attrs

from veo_async.errors import BudgetExceededError
from veo_async.models import Model, Resolution
from veo_async.request import ExtendRequest, PaidRequest, VideoRequest

__all__ = ["Prices"]


@attrs.frozen(kw_only=True)
class Prices:
    """A price list, in credits. A credit is 0.005 USD (live document 2.12).

    Attributes:
        name: What it is called.
        videos: Credits per video, by model and resolution.
        upgrade_1080p: Credits for converting a finished video to 1080P, once per video.
        upgrade_4k: The same for 4K.
        extensions: Credits per extension of a video, by model.
        dated: When it was published.
    """

    name: str
    videos: Mapping[Model, Mapping[Resolution, int]]
    upgrade_1080p: int
    upgrade_4k: int = 0
    extensions: Mapping[Model, int] = attrs.field(factory=dict[Model, int])
    dated: str = ""

    def of(self, request: PaidRequest) -> int:
        """Return what one task costs; the dearest, for what the list does not name."""
        if isinstance(request, ExtendRequest):
            return self.extension(request.model)
        resolution = request.resolution or Resolution.HD_720P
        known = self.videos.get(request.model)
        lists = self.videos.values() if known is None else (known,)
        # What is not named has no price of 0, which would be no bound.
        dearest = (one.get(resolution, max(one.values(), default=0)) for one in lists)
        return max(dearest, default=0)

    def extension(self, model: Model) -> int:
        """Return what an extension costs; the dearest, for a model that the list does not name.

        A list without extensions is one without a price for them, not one that gives them away:
        the dearer list's counts then, or a budget would be no bound.
        """
        known = self.extensions or DEARER.extensions
        return known.get(model, max(known.values(), default=0))

    def of_film(self, request: VideoRequest) -> int:
        """Return what a request costs with all its extensions."""
        return self.of(request) + len(request.extensions) * self.extension(request.model)

    def of_step(self, request: VideoRequest, done: int) -> int:
        """Return what the next task of a request costs after so many, which are done."""
        return self.extension(request.model) if done else self.of(request)


def _flat(credits_: int) -> Mapping[Resolution, int]:
    return dict.fromkeys(Resolution, credits_)


def _ladder(hd: int, full_hd: int, uhd: int) -> Mapping[Resolution, int]:
    return dict(zip(Resolution, (hd, full_hd, uhd), strict=True))


# Spec: Pricing, "10 Seconds" and "1080P Upgrade", dated by its examples. It knows no resolutions,
# no lite model and no extensions.
SPEC: Final = Prices(
    name="spec",
    videos={Model.QUALITY: _flat(80), Model.FAST: _flat(70)},
    upgrade_1080p=20,
    dated="November 2025",
)
# Live document 2.12, the public list of September and October 2026. One of its rows says 370 for
# 4k quality, another one 380.
LIVE: Final = Prices(
    name="live",
    videos={
        Model.QUALITY: _ladder(250, 255, 380),
        Model.FAST: _ladder(60, 65, 180),
        Model.LITE: _ladder(30, 35, 150),
    },
    upgrade_1080p=5,
    upgrade_4k=120,
    extensions={Model.QUALITY: 250, Model.FAST: 60, Model.LITE: 30},
    dated="October 2026",
)


def _dearer(one: Prices, other: Prices) -> Prices:
    return Prices(
        name="dearer",
        videos={
            model: {
                resolution: max(
                    prices.videos.get(model, {}).get(resolution, 0) for prices in (one, other)
                )
                for resolution in Resolution
            }
            for model in Model
        },
        upgrade_1080p=max(one.upgrade_1080p, other.upgrade_1080p),
        upgrade_4k=max(one.upgrade_4k, other.upgrade_4k),
        extensions={
            model: max(prices.extensions.get(model, 0) for prices in (one, other))
            for model in Model
        },
    )


# What budgets use: nobody can be sure which of the two lists an account is on.
DEARER: Final = _dearer(SPEC, LIVE)
PRICES: Final[Mapping[str, Prices]] = {one.name: one for one in (DEARER, SPEC, LIVE)}


@attrs.define
class Budget:
    """Credits that may be spent, and what was promised of them.

    Attributes:
        most: The bound; None for none.
        committed: What is spent, or will be if nothing goes wrong.
    """

    most: int | None = None
    committed: int = 0

    def refusal(self, needed: int) -> BudgetExceededError | None:
        """Return why so many credits may not be spent, if they may not."""
        if self.most is None or self.committed + needed <= self.most:
            return None
        left = max(0, self.most - self.committed)
        return BudgetExceededError(
            f"this may cost {needed} credits and max_credits leaves {left}; go on with a larger"
            " max_credits",
            needed=needed,
            left=left,
        )

    def commit(self, needed: int) -> None:
        """Promise credits.

        Raises:
            BudgetExceededError: Fewer are left.
        """
        refusal = self.refusal(needed)
        if refusal is not None:
            raise refusal
        self.committed += needed

    def release(self, credits_: int) -> None:
        """Take a promise back: nothing was charged."""
        self.committed -= credits_
