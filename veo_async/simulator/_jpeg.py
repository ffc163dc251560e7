"""A baseline JPEG in one colour, as much of the format as that needs (ITU-T T.81)."""

import struct
from typing import Final

__all__ = ["render_jpeg"]

_BLOCK: Final = 8
_QUANTISER: Final = 8  # one DC step is then one step of brightness: 8 * 8 / 64
_MIDDLE: Final = 128
_DC_LENGTHS: Final = bytes((0, 0, 0, 9, *bytes(12)))  # nine codes of four bits: 0 to 8, themselves
_AC_LENGTHS: Final = bytes((1, *bytes(15)))  # one code, "0": the end of a block
_AN_EMPTY_BLOCK: Final = "00000"  # no change of brightness, and the end


def render_jpeg(*, width: int, height: int, seed: int) -> bytes:
    """Make a grey picture whose brightness depends on the seed.

    Args:
        width: Pixels, at most 65535.
        height: Pixels, at most 65535.
        seed: Decides the brightness.
    """
    blocks = -(-width // _BLOCK) * -(-height // _BLOCK)
    bits = _dc(seed % 200 + 28 - _MIDDLE) + "0" + _AN_EMPTY_BLOCK * (blocks - 1)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0)  # one component
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            _segment(0xDB, b"\0" + bytes((_QUANTISER,)) * 64),
            _segment(0xC0, frame),
            _segment(0xC4, b"\x00" + _DC_LENGTHS + bytes(range(9))),
            _segment(0xC4, b"\x10" + _AC_LENGTHS + b"\0"),
            _segment(0xDA, b"\1\1\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        )
    )


def _dc(value: int) -> str:
    """Code a DC difference: its number of bits, then the bits (F.1.2.1)."""
    size = abs(value).bit_length()
    if not size:
        return "0000"
    return f"{size:04b}{value if value > 0 else value + (1 << size) - 1:0{size}b}"


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
