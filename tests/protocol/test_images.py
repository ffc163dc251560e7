"""What a file is, by its first bytes and its size."""

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.protocol.images import HEAD_BYTES, JPEG, PNG, WEBP, Kind, fault_of, kind_of
from veo_async.settings import MAX_IMAGE_BYTES

TINY_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
TINY_JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
TINY_WEBP = b"RIFF" + struct.pack("<I", 12) + b"WEBPVP8 \0\0\0\0"

TAKEN = [
    (TINY_PNG, PNG),
    (TINY_JPEG, JPEG),
    (b"\xff\xd8\xff\xe1\x20\x18Exif\0\0", JPEG),
    (b"\xff\xd8\xff\xdb\0\x43\0", JPEG),
    (b"\xff\xd8\xff\xfe\0\x04ab", JPEG),
    (TINY_WEBP, WEBP),
    (TINY_WEBP.replace(b"VP8 ", b"VP8L"), WEBP),
    (TINY_WEBP.replace(b"VP8 ", b"VP8X"), WEBP),
]

REFUSED = [
    (b"", "is empty"),
    (b"GIF89a\x40\0", "is a GIF"),
    (b"GIF87a\x40\0", "is a GIF"),
    (b"BM6$\0\0", "is a BMP"),
    (b"II*\0u\x1d", "is a TIFF"),
    (b"MM\0*\0\0", "is a TIFF"),
    (b"\0\0\1\0\1\0", "is an icon"),
    (b"8BPS\0\1", "is a Photoshop file"),
    (b"\xff\x0a\xcb\x06", "is a JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "is a JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "is a JPEG 2000"),
    (b"%PDF-1.7", "is a PDF"),
    (b"PK\3\4\x14\0", "is a ZIP archive"),
    (b"\0\0\0\x20ftypavif\0\0\0\0", "is an AVIF"),
    (b"\0\0\0\x20ftypavis\0\0\0\0", "is an AVIF"),
    (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC"),
    (b"\0\0\0\x18ftypheix\0\0\0\0", "is a HEIC"),
    (b"\0\0\0\x18ftyphevc\0\0\0\0", "is a HEIC"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0", "is a HEIF"),
    (b"\0\0\0\x18ftypmsf1\0\0\0\0", "is a HEIF"),
    (b"\0\0\0\x18ftypisom\0\0\0\0", "is a video"),
    (b'<?xml version="1.0"?>\n<svg xmlns="x">', "is an SVG"),
    (b"\n<!DOCTYPE html>\n<html>", "is a web page"),
    (b"<HTML><body>403", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself"),
    (b'{"error": "no"}', "is no JPEG, PNG or WebP"),
    (b"\x89PNG", "is no JPEG, PNG or WebP"),
    (b"RIFF\x10\0\0\0WAVEfmt ", "is no JPEG, PNG or WebP"),
    (TINY_PNG[:20], "is a PNG that was cut short"),
    (TINY_PNG.replace(b"IHDR", b"IDAT"), "is a damaged PNG"),
    (TINY_PNG.replace(struct.pack(">I", 64), bytes(4)), "is a damaged PNG"),
    (TINY_PNG.replace(struct.pack(">I", 48), bytes(4)), "is a damaged PNG"),
    (TINY_JPEG[:4], "is a JPEG that was cut short"),
    (b"\xff\xd8\xff\xd9\0\x10", "is a damaged JPEG"),
    (b"\xff\xd8\xff\xe0\0\x01", "is a damaged JPEG"),
    (TINY_WEBP[:13], "is a WebP that was cut short"),
    (TINY_WEBP[:-1], "is a WebP that was cut short"),
    (TINY_WEBP.replace(b"VP8 ", b"ICCP"), "is a damaged WebP"),
]


@pytest.mark.parametrize(("head", "kind"), TAKEN)
def test_what_the_service_takes_is_known_by_its_header(head: bytes, kind: Kind) -> None:
    assert kind_of(head) is kind
    assert fault_of(head, len(head)) is None


@pytest.mark.parametrize(("head", "words"), REFUSED)
def test_what_it_does_not_take_is_called_by_its_name(head: bytes, words: str) -> None:
    assert fault_of(head, len(head)) == words


@pytest.mark.parametrize("head", [TINY_JPEG, TINY_PNG, TINY_WEBP])
def test_ten_megabytes_are_taken_and_one_byte_more_is_not(head: bytes) -> None:
    assert fault_of(head, 10 * 1024 * 1024) is None
    fault = fault_of(head, MAX_IMAGE_BYTES + 1)
    assert fault == "has 10485761 bytes, and the service takes 10485760"


@given(st.binary(max_size=64), st.integers(0, 2**40))
def test_no_header_is_too_strange_to_be_judged(head: bytes, size: int) -> None:
    fault = fault_of(head, size)
    assert fault is not None or kind_of(head) is not None


MADE = {"jpg": None, "png": None, "webp": None, "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}


@pytest.mark.parametrize(("suffix", "word"), MADE.items())
def test_images_of_a_real_encoder_are_judged_rightly(
    suffix: str, word: str | None, tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    path = tmp_path / f"frame.{suffix}"
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1"]
    subprocess.run([tool("ffmpeg", "ffmpeg"), "-v", "error", *source, path], check=True)
    data = path.read_bytes()
    fault = fault_of(data[:HEAD_BYTES], len(data))
    assert fault is None if word is None else fault == f"is a {word}"
