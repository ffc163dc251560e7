"""Is it a whole MP4? A walk over the top-level boxes (ISO/IEC 14496-12, 4.2), fed piece by piece.

The walk reads box headers only and skips their content, so it costs nothing beside the transfer. It
cannot see damage inside a box; the declared length, ETag and TCP's checksums cover that.
"""

from typing import Final

import attrs

__all__: list[str] = []

_HEADER: Final = 8
_LARGE_HEADER: Final = 16  # size field 1: the real size follows as 64 bits
_FIRST_KINDS: Final = frozenset({b"ftyp", b"styp"})
_INDEXES: Final = frozenset({b"moov", b"moof"})


@attrs.define
class BoxWalk:
    """The state of a walk.

    Attributes:
        position: Bytes fed so far.
        fault: Why this is no MP4, once that is certain.
    """

    position: int = 0
    fault: str | None = None
    _header: bytearray = attrs.field(factory=bytearray, init=False)
    _box_end: int = attrs.field(default=0, init=False)  # where the next box starts
    _kinds: set[bytes] = attrs.field(factory=set[bytes], init=False)
    _to_the_end: bool = attrs.field(default=False, init=False)  # size 0: up to the end of the file

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece of the file."""
        end = self.position + len(data)
        while self.fault is None and not self._to_the_end and self._box_end < end:
            offset = max(self._box_end + len(self._header), self.position)
            missing = self._header_size() - len(self._header)
            piece = data[offset - self.position :][:missing]
            self._header += piece
            if len(piece) < missing:
                break
            if len(self._header) == self._header_size():
                self._take_header()
        self.position = end

    def _header_size(self) -> int:
        is_large = len(self._header) >= _HEADER and int.from_bytes(self._header[:4], "big") == 1
        return _LARGE_HEADER if is_large else _HEADER

    def _take_header(self) -> None:
        kind = bytes(self._header[4:8])
        if not self._kinds and kind not in _FIRST_KINDS:
            self.fault = f"it starts with {bytes(self._header[:8])!r}, not with an ftyp box"
            return
        size = int.from_bytes(self._header[:4], "big")
        self._to_the_end = size == 0
        if size == 1:
            size = int.from_bytes(self._header[8:16], "big")
        if size < len(self._header) and not self._to_the_end:
            self.fault = f"its box {kind!r} at {self._box_end} claims {size} bytes"
            return
        if kind == b"moof":
            self._kinds.discard(b"mdat")  # each fragment's index is followed by its own samples
        self._kinds.add(kind)
        self._box_end += size
        self._header.clear()

    def verdict(self, *, length_known: bool) -> str | None:
        """Return why the file is not whole, or None if it is.

        Args:
            length_known: Whether the transport declared the length. A last box that reaches "to
                the end of the file" hides a cut, so it is believed only then.
        """
        if self.fault is not None:
            return self.fault
        if self._to_the_end and not length_known:
            return "its last box has no size and the transfer had no length"
        if not self._to_the_end and (self._header or self._box_end != self.position):
            return f"it ends at byte {self.position}, inside a box that ends at {self._box_end}"
        if not self._kinds & _INDEXES:
            return "it has no moov box"
        return None if b"mdat" in self._kinds else "it has no mdat box where one is due"
