"""H.264 Constrained Baseline, as much of it as pictures made of flat squares need.

Every coded macroblock is Intra_16x16, predicted from its left (or upper) neighbour, with one DC
coefficient per plane; every other macroblock is skipped. The quantisers chosen here turn one
coefficient step into exactly one sample step and the deblocking filter is off, so a decoder shows
the colours that were asked for, to the bit, in every frame. Numbers of clauses and tables are those
of ITU-T H.264.
"""

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, TypeAlias

__all__ = ["MACROBLOCK", "Colour", "VideoEncoder"]

Colour: TypeAlias = tuple[int, int, int]
"""Y, Cb and Cr of one square, 0..255 each."""

MACROBLOCK: Final = 16
"""Width and height of a square, in pixels."""

# (level_idc, macroblocks per second, macroblocks per frame), Table A-1. Level 2 is the floor: the
# bit rates below it (64 kbit/s at level 1) would need a rate control to be honest.
_LEVELS: Final = (
    (20, 11_880, 396),
    (21, 19_800, 792),
    (22, 20_250, 1_620),
    (30, 40_500, 1_620),
    (31, 108_000, 3_600),
    (32, 216_000, 5_120),
    (40, 245_760, 8_192),
    (42, 522_240, 8_704),
    (50, 589_824, 22_080),
    (51, 983_040, 36_864),
    (52, 2_073_600, 36_864),
    (60, 4_177_920, 139_264),
    (61, 8_355_840, 139_264),
    (62, 16_711_680, 139_264),
)

# 8.5.10, 8.5.11.2: LevelScale is 256 where QP % 6 == 4, so QP 28 gives (256 * level + 2) >> 2 for
# luma and QP 22 gives (256 * level << 3) >> 5 for chroma: 64 a level, which (64 + 32) >> 6 makes 1.
_LUMA_QP: Final = 28
_CHROMA_QP: Final = 22

_SPS, _PPS, _KEY, _DELTA = 0x67, 0x68, 0x65, 0x41  # NAL unit headers
_PROFILE: Final = f"{66:08b}{0b1100_0000:08b}"  # Baseline; constraint_set1 makes it Constrained
_FRAME_NUMBER_BITS: Final = 4
_ZERO: Final = "1"  # ue(0) and se(0)
_DEBLOCKING_OFF: Final = "010"  # disable_deblocking_filter_idc = 1
_MODES_LEFT, _MODES_ABOVE, _MODES_NONE = (1, 1), (0, 2), (2, 0)  # luma, chroma: Tables 8-4, 8-5
_INTRA_IN_P: Final = 5  # added to mb_type in a P slice (7.4.5)
_NOTHING_ABOVE: Final = (128, 128, 128)

# coeff_token (Table 9-5) for no coefficient, one of +-1, one larger: nC = 0, then nC = -1.
_LUMA_TOKENS: Final = ("1", "01", "000101")
_CHROMA_TOKENS: Final = ("01", "1", "000111")
_NO_ZEROS_BEFORE: Final = "1"  # total_zeros = 0, in Tables 9-7 and 9-9 alike
_UNARY_LEVELS: Final = 14  # level codes below this are unary (9.2.2.1)
_SHORT_LEVELS: Final = 30  # below this: prefix 14 and 4 bits; from here: prefix 15 and 12 bits

_EMULATION: Final = re.compile(rb"\0\0(?=[\0-\3])")


class VideoEncoder:
    """The parameter sets of one video and the frames that go with them.

    Args:
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames per second.

    Attributes:
        columns: Squares per row; the last may be cropped.
        rows: Rows of squares; the last may be cropped.
        sps: Sequence parameter set, a NAL unit.
        pps: Picture parameter set, a NAL unit.

    Raises:
        ValueError: The size or the rate is beyond the highest level of H.264.
    """

    def __init__(self, *, width: int, height: int, fps: int) -> None:
        self.columns = -(-width // MACROBLOCK)
        self.rows = -(-height // MACROBLOCK)
        self.sps = _nal(_SPS, _sequence_parameters(width, height, fps))
        self.pps = _nal(_PPS, _picture_parameters())

    def key_frame(self, picture: Sequence[Colour], *, number: int) -> bytes:
        """Encode a whole picture as the `number`-th IDR frame of the video, a NAL unit."""
        # Two IDR frames in a row must differ in idr_pic_id.
        identity = "0" * _FRAME_NUMBER_BITS + _ue(number % 2)
        head = [_ZERO, _ue(7), _ZERO, identity, "00", _ZERO, _DEBLOCKING_OFF]
        return _nal(_KEY, head + [self._square(picture, i, 0) for i in range(len(picture))])

    def delta_frame(
        self, picture: Sequence[Colour], changed: Iterable[int], *, number: int
    ) -> bytes:
        """Encode a picture that differs from the one before in some squares, as a NAL unit.

        Args:
            picture: The whole new picture, row by row.
            changed: Indices into it, ascending.
            number: Frames since the last key frame.
        """
        frame_number = f"{number % 2**_FRAME_NUMBER_BITS:0{_FRAME_NUMBER_BITS}b}"
        bits = [_ZERO, _ue(5), _ZERO, frame_number, "000", _ZERO, _DEBLOCKING_OFF]
        at = 0
        for index in changed:
            bits += (_ue(index - at), self._square(picture, index, _INTRA_IN_P))
            at = index + 1
        if at < len(picture):
            bits.append(_ue(len(picture) - at))
        return _nal(_DELTA, bits)

    def _square(self, picture: Sequence[Colour], index: int, type_offset: int) -> str:
        if index % self.columns:
            modes, near = _MODES_LEFT, picture[index - 1]
        elif index:
            modes, near = _MODES_ABOVE, picture[index - self.columns]
        else:
            modes, near = _MODES_NONE, _NOTHING_ABOVE
        here = picture[index]
        y, cb, cr = here[0] - near[0], here[1] - near[1], here[2] - near[2]
        bits = _head(type_offset, modes, has_chroma=bool(cb or cr)) + _coefficient(y, _LUMA_TOKENS)
        if cb or cr:
            bits += _coefficient(cb, _CHROMA_TOKENS) + _coefficient(cr, _CHROMA_TOKENS)
        return bits


def _sequence_parameters(width: int, height: int, fps: int) -> list[str]:
    columns, rows = -(-width // MACROBLOCK), -(-height // MACROBLOCK)
    # Cropping counts in chroma samples, two pixels each.
    right, bottom = (columns * MACROBLOCK - width) // 2, (rows * MACROBLOCK - height) // 2
    return [
        f"{_PROFILE}{_level(columns, rows, fps):08b}",
        *(_ue(0), _ue(_FRAME_NUMBER_BITS - 4)),  # seq_parameter_set_id, log2_max_frame_num
        *(_ue(2), _ue(1), "0"),  # output order is decoding order; one reference frame; no gaps
        *(_ue(columns - 1), _ue(rows - 1), "11"),  # frames only, direct_8x8_inference
        *("1", _ue(0), _ue(right), _ue(0), _ue(bottom)),
        *("1", _video_usability(fps)),
    ]


def _video_usability(fps: int) -> str:
    """Annex E: BT.709 in limited range, a fixed rate, no reordering."""
    colours = f"1{5:03b}01{1:08b}{1:08b}{1:08b}"
    timing = f"1{1:032b}{2 * fps:032b}1"  # a tick is a field
    no_reordering = "11" + "".join(map(_ue, (0, 0, 16, 16, 0, 1)))
    return f"00{colours}0{timing}000{no_reordering}"


def _picture_parameters() -> list[str]:
    return [
        *(_ue(0), _ue(0), "00", _ue(0)),  # CAVLC, one slice group
        *(_ue(0), _ue(0), "000"),  # one reference, no weighting
        *(_se(_LUMA_QP - 26), _se(0), _se(_CHROMA_QP - _LUMA_QP)),
        "100",  # the slice says whether it is deblocked; intra may predict from inter
    ]


def _level(columns: int, rows: int, fps: int) -> int:
    squares = columns * rows
    for level, per_second, per_frame in _LEVELS:
        longest = math.isqrt(8 * per_frame)
        if squares <= per_frame and squares * fps <= per_second and max(columns, rows) <= longest:
            return level
    raise ValueError(
        f"width, height and fps ({columns * MACROBLOCK}x{rows * MACROBLOCK} at {fps}) are beyond "
        "the highest level of H.264; use at most 8192x4320 at 120"
    )


@cache
def _ue(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _se(value: int) -> str:
    return _ue(2 * value - 1 if value > 0 else -2 * value)


@cache
def _head(type_offset: int, modes: tuple[int, int], *, has_chroma: bool) -> str:
    """Code what comes before the coefficients of an Intra_16x16 macroblock."""
    luma_mode, chroma_mode = modes
    return _ue(type_offset + 1 + luma_mode + 4 * has_chroma) + _ue(chroma_mode) + _ZERO


@cache
def _coefficient(level: int, tokens: tuple[str, str, str]) -> str:
    """Code a block whose only coefficient, if any, is the first."""
    none, one, larger = tokens
    if not level:
        return none
    if abs(level) == 1:
        return one + ("1" if level < 0 else "0") + _NO_ZEROS_BEFORE
    return larger + _level_code(2 * abs(level) - 4 + (level < 0)) + _NO_ZEROS_BEFORE


def _level_code(code: int) -> str:
    if code < _UNARY_LEVELS:
        return "0" * code + "1"
    if code < _SHORT_LEVELS:
        return "0" * 14 + f"1{code - _UNARY_LEVELS:04b}"
    return "0" * 15 + f"1{code - _SHORT_LEVELS:012b}"


def _nal(header: int, parts: Iterable[str]) -> bytes:
    bits = "".join(parts) + "1"
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes((header,)) + _EMULATION.sub(b"\0\0\3", payload)
