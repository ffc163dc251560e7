"""What a file is, by its first bytes: the service takes JPEG, PNG and WebP (spec: Specs)."""

from typing import Final

import attrs

from veo_async.settings import MAX_IMAGE_BYTES

__all__: list[str] = []

HEAD_BYTES: Final = 4096  # a web page may begin with a long comment
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER: Final = 24  # the signature, and an IHDR up to the picture's height
_RIFF_HEADER: Final = 12
_WEBP_HEADER: Final = 16
_WEBP_CHUNKS: Final = (b"VP8 ", b"VP8L", b"VP8X")
_JPEG_HEADER: Final = 6  # the start, and the length of the first segment
_JPEG_LENGTH: Final = 2  # which counts itself
# Start of a frame, tables, comments and application data: what a JPEG may begin with.
_JPEG_MARKERS: Final = frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xF0), 0xFE})
_BRANDS_END: Final = 12


@attrs.frozen
class Kind:
    """A format.

    Attributes:
        name: What people call it.
        suffix: What the names of such files end with.
        content_type: Its media type.
    """

    name: str
    suffix: str
    content_type: str


JPEG: Final = Kind("JPEG", ".jpg", "image/jpeg")
PNG: Final = Kind("PNG", ".png", "image/png")
WEBP: Final = Kind("WebP", ".webp", "image/webp")

# What else people have: how it begins, and what it is.
_OTHERS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"GIF8", "is a GIF"),
    (b"BM", "is a BMP"),
    (b"II*\0", "is a TIFF"),
    (b"MM\0*", "is a TIFF"),
    (b"\0\0\1\0", "is an icon"),
    (b"8BPS", "is a Photoshop file"),
    (b"\xff\x0a", "is a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "is a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "is a JPEG 2000"),
    (b"%PDF-", "is a PDF"),
    (b"PK\3\4", "is a ZIP archive"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself"),
)
_BRANDS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"avi", "is an AVIF"),
    (b"hei", "is a HEIC"),
    (b"hev", "is a HEIC"),
    (b"mif", "is a HEIF"),
    (b"msf", "is a HEIF"),
)
_TEXTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"<svg", "is an SVG"),
    (b"<!doctype html", "is a web page"),
    (b"<html", "is a web page"),
)


def kind_of(head: bytes) -> Kind | None:
    """Return the format that a file begins like, if it is one that the service takes."""
    if head.startswith(_PNG):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(b"RIFF") and head[8:_RIFF_HEADER] == b"WEBP":
        return WEBP
    return None


def fault_of(head: bytes, size: int) -> str | None:
    """Return why the service would not take an image, as what is said of it; None if it would.

    Args:
        head: Its first bytes, `HEAD_BYTES` of them or all.
        size: How many it has.
    """
    if not size:
        return "is empty"
    kind = kind_of(head)
    if kind is None:
        return _other(head)
    if size > MAX_IMAGE_BYTES:
        return f"has {size} bytes, and the service takes {MAX_IMAGE_BYTES}"
    return _HEADERS[kind](head, size)


def _other(head: bytes) -> str:
    for start, words in _OTHERS:
        if head.startswith(start):
            return words
    if head[4:8] == b"ftyp":
        brand = head[8:_BRANDS_END]
        return next((words for start, words in _BRANDS if brand.startswith(start)), "is a video")
    text = head.lower()
    for start, words in _TEXTS:
        if start in text:
            return words
    return "is no JPEG, PNG or WebP"


def _png_fault(head: bytes, _size: int) -> str | None:
    if len(head) < _PNG_HEADER:
        return "is a PNG that was cut short"
    is_plausible = head[8:16] == b"\0\0\0\rIHDR" and any(head[16:20]) and any(head[20:24])
    return None if is_plausible else "is a damaged PNG"


def _jpeg_fault(head: bytes, _size: int) -> str | None:
    if len(head) < _JPEG_HEADER:
        return "is a JPEG that was cut short"
    length = int.from_bytes(head[4:6], "big")
    is_plausible = head[3] in _JPEG_MARKERS and length >= _JPEG_LENGTH
    return None if is_plausible else "is a damaged JPEG"


def _webp_fault(head: bytes, size: int) -> str | None:
    # It says itself how long it is, the first eight bytes not counted.
    if len(head) < _WEBP_HEADER or size < int.from_bytes(head[4:8], "little") + 8:
        return "is a WebP that was cut short"
    return None if head[12:_WEBP_HEADER] in _WEBP_CHUNKS else "is a damaged WebP"


_HEADERS: Final = {JPEG: _jpeg_fault, PNG: _png_fault, WEBP: _webp_fault}
