"""A landscape in squares: sky, hills, two drifting discs and the word SIMULATED."""

import colorsys
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from veo_async.simulator._h264 import Colour

__all__ = ["Landscape"]

_Tone: TypeAlias = tuple[float, float, float]
"""A colour that is not rounded yet."""

_GOLDEN: Final = 0.618_033_988_75  # its multiples, modulo 1, keep neighbouring seeds far apart
_TURN: Final = 2 * math.pi

_LETTERS: Final = (
    "### # #   # # # #   ### ### ### ## ",
    "#   # ## ## # # #   # #  #  #   # #",
    "### # # # # # # #   ###  #  ### # #",
    "  # # #   # # # #   # #  #  #   # #",
    "### # #   # ### ### # #  #  ### ## ",
)
_LETTERS_SHARE: Final = 0.94  # of the picture's width, at most
_LETTERS_CENTRE: Final = 0.85  # of its height: over the darkest hills
_LETTERS_TONE: Final = (228.0, 128.0, 128.0)


class Landscape:
    """A picture that moves.

    Args:
        columns: Squares per row.
        rows: Rows.
        seed: Decides palette, hills and motion.

    Attributes:
        squares: The picture as it is now, row by row.
    """

    def __init__(self, *, columns: int, rows: int, seed: int) -> None:
        self._columns = columns
        self._rows = rows
        self._chance = random.Random(f"picture {seed}")  # noqa: S311  a landscape is no secret
        self._hue = seed % 1_000_003 * _GOLDEN
        self._sky = self._paint_sky()
        self._still = [tone for tone in self._sky for _ in range(columns)]
        self._open = [1.0] * len(self._still)  # how much of a square's sky is in view
        self._paint_hills()
        self._paint_letters()
        self._discs = [
            self._disc(tone=_tone(self._hue + 0.45, 0.84, 0.9), size=0.15),
            self._disc(tone=_tone(self._hue + 0.55, 0.92, 0.7), size=0.06),
        ]
        self._backdrop = [_rounded(tone) for tone in self._still]
        self._drawn: dict[int, Colour] = {}
        self.squares = list(self._backdrop)

    def move_to(self, seconds: float) -> list[int]:
        """Show the picture at a time and return the squares that changed, ascending."""
        drawn = self._draw(seconds)
        changed: list[int] = []
        for index in sorted(self._drawn.keys() | drawn.keys()):
            colour = drawn.get(index) or self._backdrop[index]
            if colour != self.squares[index]:
                self.squares[index] = colour
                changed.append(index)
        self._drawn = drawn
        return changed

    def _draw(self, seconds: float) -> dict[int, Colour]:
        air: dict[int, _Tone] = {}
        for disc in self._discs:
            for column, row, share in disc.squares_at(seconds):
                index = row * self._columns + column
                if 0 <= column < self._columns and 0 <= row < self._rows and self._open[index]:
                    below = air.get(index, self._sky[row])
                    air[index] = _mix(below, disc.tone, share) if share < 1 else disc.tone
        return {index: self._behind_hills(index, tone) for index, tone in air.items()}

    def _behind_hills(self, index: int, air: _Tone) -> Colour:
        share = self._open[index]
        if share == 1:
            return _rounded(air)
        still, sky = self._still[index], self._sky[index // self._columns]
        return _rounded(
            (
                still[0] + (air[0] - sky[0]) * share,
                still[1] + (air[1] - sky[1]) * share,
                still[2] + (air[2] - sky[2]) * share,
            )
        )

    def _paint_sky(self) -> list[_Tone]:
        top, horizon = _tone(self._hue, 0.34, 0.55), _tone(self._hue + 0.09, 0.78, 0.75)
        reach = 0.75 * self._rows
        return [_mix(top, horizon, min(1.0, (row + 0.5) / reach)) for row in range(self._rows)]

    def _paint_hills(self) -> None:
        for height, light in ((0.42, 0.42), (0.32, 0.28), (0.23, 0.15)):
            tone = _tone(self._hue + 0.04, light, 0.42)
            waves = self._waves()
            for column in range(self._columns):
                x = column / min(self._columns, self._rows)
                swell = sum(size * math.sin(_TURN * (x * pace + at)) for size, pace, at in waves)
                top = self._rows * (1 - height - 0.05 * swell)
                for row in range(max(0, int(top)), self._rows):
                    self._cover(row * self._columns + column, tone, min(1.0, row + 1 - top))

    def _waves(self) -> list[tuple[float, float, float]]:
        """Return the waves of a ridge: size, number per shorter side of the picture, phase."""
        return [
            (size, pace * (0.7 + 0.6 * self._chance.random()), self._chance.random())
            for size, pace in ((1.0, 0.6), (0.5, 1.7), (0.2, 4.1))
        ]

    def _paint_letters(self) -> None:
        scale = int(_LETTERS_SHARE * self._columns / len(_LETTERS[0]))
        left = (self._columns - scale * len(_LETTERS[0])) // 2
        top = round(_LETTERS_CENTRE * self._rows - scale * len(_LETTERS) / 2)
        if not scale or top < 0 or top + scale * len(_LETTERS) > self._rows:
            return
        for row in range(scale * len(_LETTERS)):
            start = (top + row) * self._columns + left
            for column in range(scale * len(_LETTERS[0])):
                if _LETTERS[row // scale][column // scale] != " ":
                    self._cover(start + column, _LETTERS_TONE, 1.0)

    def _cover(self, index: int, tone: _Tone, share: float) -> None:
        self._still[index] = _mix(self._still[index], tone, share)
        self._open[index] *= 1 - share

    def _disc(self, tone: _Tone, *, size: float) -> "_Disc":
        shorter = min(self._columns, self._rows)
        chance = self._chance.random
        return _Disc(
            tone=tone,
            radius=max(0.8, size * shorter),
            centre=((0.35 + 0.3 * chance()) * self._columns, (0.25 + 0.1 * chance()) * self._rows),
            reach=(0.28 * self._columns, 0.12 * self._rows),
            turns_per_second=(0.04 + 0.03 * chance(), 0.06 + 0.05 * chance()),
            phases=(chance(), chance()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Disc:
    """A soft-edged disc on a slow Lissajous path; lengths are in squares."""

    tone: _Tone
    radius: float
    centre: tuple[float, float]
    reach: tuple[float, float]
    turns_per_second: tuple[float, float]
    phases: tuple[float, float]

    def squares_at(self, seconds: float) -> Iterator[tuple[int, int, float]]:
        """Yield column, row and share (1 or more: all) of each square that the disc touches."""
        x, y = (
            centre + reach * math.sin(_TURN * (seconds * turns + phase))
            for centre, reach, turns, phase in zip(
                self.centre, self.reach, self.turns_per_second, self.phases, strict=True
            )
        )
        outside = self.radius + 0.5  # an edge is one square wide
        for row in range(math.floor(y - outside), math.ceil(y + outside)):
            for column in range(math.floor(x - outside), math.ceil(x + outside)):
                share = outside - math.hypot(column + 0.5 - x, row + 0.5 - y)
                if share > 0:
                    yield column, row, share


def _tone(hue: float, lightness: float, saturation: float) -> _Tone:
    """Convert to BT.709 in limited range."""
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 16 + 219 * y, 128 + 224 * (blue - y) / 1.8556, 128 + 224 * (red - y) / 1.5748


def _mix(below: _Tone, above: _Tone, share: float) -> _Tone:
    rest = 1 - share
    return (
        rest * below[0] + share * above[0],
        rest * below[1] + share * above[1],
        rest * below[2] + share * above[2],
    )


def _rounded(tone: _Tone) -> Colour:
    return round(tone[0]), round(tone[1]), round(tone[2])
