"""What the service sells and takes, from the package's own tables."""

from collections.abc import Iterator, Sequence
from typing import Final

from veo_async.cli import output
from veo_async.cli.pricing import USD_PER_CREDIT, listed
from veo_async.models import JSON, AspectRatio, Dialect, GenerationType, Model, Resolution
from veo_async.prices import LIVE, SPEC
from veo_async.request import (
    CLIP_SECONDS,
    DURATIONS,
    EXTENSION_SECONDS,
    IMAGE_SUFFIXES,
    MAX_FRAMES,
    MAX_PROMPT_CHARACTERS,
    MAX_REFERENCES,
    SEEDS,
)
from veo_async.settings import MAX_IMAGE_BYTES, MAX_TASKS, PACE, RETENTION, URL_LIFETIME

__all__: list[str] = []

_LISTS: Final = (SPEC, LIVE)
_WHAT: Final = {
    Model.QUALITY: "looks best",
    Model.FAST: "the usual one",
    Model.LITE: "live only",
}
_IMAGES: Final = {
    GenerationType.TEXT_2_VIDEO: (0, 0),
    GenerationType.FIRST_AND_LAST_FRAMES_2_VIDEO: (1, MAX_FRAMES),
    GenerationType.REFERENCE_2_VIDEO: (1, MAX_REFERENCES),
}
_DAY: Final = 24 * 3600
_MEGABYTE: Final = 1024 * 1024


def listing(*, is_json: bool) -> str:
    """Return it, for people or for programs."""
    return output.dumped(_facts()) if is_json else "\n".join(_lines())


def _facts() -> dict[str, JSON]:
    creates, seconds = PACE
    return {
        "models": [str(model) for model in Model],
        "default_model": str(Model.FAST),
        "resolutions": [str(one) for one in Resolution],
        "aspect_ratios": [str(one) for one in AspectRatio],
        "durations": [*DURATIONS],
        "clip_seconds": CLIP_SECONDS,
        "extension_seconds": EXTENSION_SECONDS,
        "images": {str(kind): [*span] for kind, span in _IMAGES.items()},
        "image_suffixes": [*IMAGE_SUFFIXES],
        "usd_per_credit": USD_PER_CREDIT,
        "prices": {prices.name: listed(prices) for prices in _LISTS},
        "limits": {
            "prompt_characters": MAX_PROMPT_CHARACTERS,
            "image_bytes": MAX_IMAGE_BYTES,
            "seeds": [SEEDS[0], SEEDS[-1]],
            "tasks": MAX_TASKS,
            "creates": creates,
            "creates_seconds": seconds,
            "link_seconds": URL_LIFETIME,
            "kept_days": RETENTION / _DAY,
        },
        "dialects": [str(one) for one in Dialect],
    }


def _lines() -> Iterator[str]:
    yield from _prices()
    yield ""
    yield "Images"
    for kind, (least, most) in _IMAGES.items():
        yield f"  {kind:<31}{_count(kind, least, most)}"
    endings = ", ".join(ending.removeprefix(".") for ending in IMAGE_SUFFIXES)
    yield f"  each a URL, or a file of up to {MAX_IMAGE_BYTES // _MEGABYTE} MB ({endings})"
    yield ""
    yield "Limits"
    creates, seconds = PACE
    for what, much in (
        ("prompt", f"{MAX_PROMPT_CHARACTERS} characters"),
        ("seed", f"{SEEDS[0]} to {SEEDS[-1]}"),
        ("aspect ratio", ", ".join(AspectRatio)),
        ("length of a video", f"{CLIP_SECONDS} s; {_either(DURATIONS)} s by --duration (live)"),
        ("an extension adds", f"about {EXTENSION_SECONDS} s (live)"),
        ("tasks at once", f"{MAX_TASKS}"),
        ("new tasks", f"{creates} in {seconds:g} s"),
        ("a link lives", f"{URL_LIFETIME / 60:g} minutes"),
        ("a video is kept", f"{RETENTION / _DAY:g} days"),
    ):
        yield f"  {what:<20}{much}"


def _prices() -> Iterator[str]:
    yield f"Credits; one is {USD_PER_CREDIT} USD"
    yield f"  {'':<18}{f'spec, {SPEC.dated}':>20}    live, {LIVE.dated}"
    yield _row("", ["", *Resolution, "extension"])
    for model in Model:
        spec = SPEC.videos.get(model, {}).get(Resolution.HD_720P)  # it knows no resolutions
        live = [LIVE.videos.get(model, {}).get(resolution) for resolution in Resolution]
        yield _row(model, [spec, *live, LIVE.extensions.get(model)], _WHAT[model])
    yield _row("upgrade to 1080p", [SPEC.upgrade_1080p, None, LIVE.upgrade_1080p, None, None])
    yield _row("upgrade to 4k", [None, None, None, LIVE.upgrade_4k, None])
    yield "  Budgets go by the dearer of the two lists."


def _row(what: str, cells: Sequence[str | int | None], note: str = "") -> str:
    spec, *live = ("-" if cell is None else cell for cell in cells)
    low, middle, high, extension = live
    return f"  {what:<18}{spec:>20}  {low:>6}{middle:>7}{high:>6}{extension:>11}   {note}".rstrip()


def _count(kind: GenerationType, least: int, most: int) -> str:
    if not most:
        return "no image"
    spec = " (3 at the live service)" if kind is GenerationType.REFERENCE_2_VIDEO else ""
    return f"{least} to {most} images{spec}"


def _either(numbers: tuple[int, ...]) -> str:
    *most, last = (str(number) for number in numbers)
    return f"{', '.join(most)} or {last}"
