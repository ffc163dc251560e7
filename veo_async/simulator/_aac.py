"""AAC-LC, as much of it as a plucked tone needs.

With the sine window, one MDCT coefficient that keeps its value from frame to frame (and changes its
sign each frame where its bin is odd) comes out as a pure sine of constant amplitude: the overlap
of two frames is cos(a)cos(x) + sin(a)sin(x). Bin k sounds at k * 23.4 Hz. So a frame needs values
of -1, 0 and 1 in one Huffman codebook, and a gain. Numbers of clauses are those of ISO/IEC 14496-3.
"""

import random
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from typing import Final

__all__ = ["AUDIO_CONFIG", "FRAME_SAMPLES", "SAMPLE_RATE", "audio_frames"]

SAMPLE_RATE: Final = 48_000
FRAME_SAMPLES: Final = 1_024

AUDIO_CONFIG: Final = int("0001000110001000", 2).to_bytes(2, "big")
"""AudioSpecificConfig (1.6.2.1): AAC-LC, 48 kHz, mono."""

# Each of four values is -1, 0 or 1; one that is not 0 is enough here (codebook 1, 4.A.1).
_QUIET: Final = "0"
_QUADS: Final = {
    (0, 1): "10000",
    (0, -1): "10001",
    (1, 1): "10011",
    (1, -1): "10111",
    (2, 1): "10110",
    (2, -1): "10101",
    (3, 1): "10100",
    (3, -1): "10010",
}

# At 48 kHz the first 17 scale factor bands are the first 96 bins (Table 4.129): 10 of 4, 7 of 8.
_BANDS: Final = 17
_BINS: Final = 96

# Just intonation in whole bins: ratios, and how many bins a unit may have.
_CHORDS: Final = tuple(
    tuple(unit * part for part in ratio)
    for ratio, units in (
        ((4, 5, 6), (3, 4, 5)),
        ((10, 12, 15), (1, 2)),
        ((6, 8, 9), (2, 3)),
        ((3, 4, 5), (4, 5, 6)),
        ((2, 3, 4), (5, 6, 7)),
        ((5, 6, 8), (2, 3, 4)),
    )
    for unit in units
)

# A step is 1.5 dB. The output peaks at 2 / 2048 * 2 ** ((gain - 100) / 4) of 32768 per tone: this
# is -26 dBFS, so that a note and its octave together peak at -20.
_LOUDEST: Final = 183
_SOFTEST: Final = _LOUDEST - 16
_NOTE_FRAMES: Final = (12, 15, 18, 21)  # 0.26 to 0.45 s
_ATTACK: Final = (12, 4)  # steps below the loudest in a note's first frames


def audio_frames(seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` raw AAC frames of an arpeggio that depends on the seed."""
    chance = random.Random(f"sound {seed}")  # noqa: S311  a tune is no secret
    chord = _CHORDS[seed % len(_CHORDS)]
    orders = list(permutations(chord))
    notes = orders[int(chance.random() * len(orders))]
    length = _NOTE_FRAMES[int(chance.random() * len(_NOTE_FRAMES))]
    for number in range(count):
        note, age = divmod(number, length)
        yield _frame(notes[note % len(notes)], _gain(age), number % 2)


def _gain(age: int) -> int:
    below = _ATTACK[age] if age < len(_ATTACK) else age - len(_ATTACK)
    return max(_SOFTEST, _LOUDEST - below)


@cache
def _frame(tone: int, gain: int, parity: int) -> bytes:
    """Code one raw_data_block: a tone and its octave at one gain."""
    bits = "".join(
        (
            "0000000",  # a single channel element
            f"{gain:08b}",
            f"0{0:02b}0{_BANDS:06b}0",  # one long sine window, no prediction
            f"{1:04b}{_BANDS:05b}",  # one section in codebook 1
            "0" * _BANDS,  # all scale factors are the gain
            "000",  # no pulses, no noise shaping, no gain control
            _spectrum({tone: -1 if tone * parity % 2 else 1, 2 * tone: 1}),
            "111",  # the end
        )
    )
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _spectrum(values: dict[int, int]) -> str:
    quads = [_QUIET] * (_BINS // 4)
    for position, value in values.items():
        quads[position // 4] = _QUADS[position % 4, value]
    return "".join(quads)
