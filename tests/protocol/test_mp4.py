"""The walk over an MP4's boxes (ISO/IEC 14496-12, 4.2): is the file whole?"""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veo_async.protocol.mp4 import BoxWalk
from veo_async.simulator.media import render_mp4


def box(kind: bytes, content: bytes | int = 0) -> bytes:
    body = bytes(content) if isinstance(content, int) else content
    return struct.pack(">I4s", 8 + len(body), kind) + body


def large(kind: bytes, content: int) -> bytes:
    """Return a box with a 64-bit size."""
    return struct.pack(">I4sQ", 1, kind, 16 + content) + bytes(content)


def endless(kind: bytes, content: int) -> bytes:
    """Return a box that reaches to the end of the file."""
    return struct.pack(">I4s", 0, kind) + bytes(content)


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
MOOV = box(b"moov", box(b"mvhd", 100))
MDAT = box(b"mdat", 300)

# Each with the cuts that leave a whole film behind, which no walk over the boxes can see.
LAYOUTS: dict[str, tuple[list[bytes], list[int]]] = {
    "faststart": ([FTYP, MOOV, MDAT], []),
    "moov-last": ([FTYP, MDAT, MOOV], []),
    "free-between": ([FTYP, box(b"free", 40), MOOV, box(b"free"), MDAT], []),
    "empty-mdat": ([FTYP, MOOV, box(b"mdat")], []),
    "64-bit-mdat": ([FTYP, MOOV, large(b"mdat", 300)], []),
    "64-bit-mdat-first": ([FTYP, large(b"mdat", 300), MOOV], []),
    "wide-and-mdat": ([FTYP, box(b"wide"), MDAT, box(b"udta", 9), MOOV], []),
    "uuid": ([FTYP, box(b"uuid", 16), MOOV, MDAT], []),
    "free-last": ([FTYP, MOOV, MDAT, box(b"free", 40)], [3]),
    "two-mdats": ([FTYP, MOOV, MDAT, MDAT], [3]),
    "two-mdats-moov-last": ([FTYP, MDAT, MDAT, MOOV], []),
    "one-fragment": ([FTYP, MOOV, box(b"moof", 50), MDAT], []),
    "fragments": ([FTYP, MOOV, *[box(b"moof", 50), MDAT] * 3, box(b"mfra", 20)], [4, 6, 8]),
    "segment": ([box(b"styp", 8), box(b"sidx", 30), box(b"moof", 50), MDAT], []),
    "segments": ([box(b"styp", 8), *[box(b"moof", 50), MDAT] * 2], [3]),
}


def walked(*pieces: bytes) -> BoxWalk:
    walk = BoxWalk()
    for piece in pieces:
        walk.feed(piece)
    return walk


def verdicts(*pieces: bytes) -> tuple[str | None, str | None, str | None, int]:
    walk = walked(*pieces)
    known, unknown = (walk.verdict(length_known=known) for known in (True, False))
    return walk.fault, known, unknown, walk.position


@pytest.fixture(scope="module")
def real() -> bytes:
    return render_mp4(width=16, height=16, seconds=0.2, seed=7)


@pytest.mark.parametrize("name", [*LAYOUTS])
def test_a_whole_file_is_whole(name: str) -> None:
    film = b"".join(LAYOUTS[name][0])
    assert verdicts(film) == (None, None, None, len(film))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", [*LAYOUTS])
def test_every_cut_is_seen(name: str, known: bool) -> None:
    boxes, blind = LAYOUTS[name]
    film = b"".join(boxes)
    unseen = [
        cut for cut in range(len(film)) if walked(film[:cut]).verdict(length_known=known) is None
    ]
    assert unseen == [len(b"".join(boxes[:count])) for count in blind]


def test_every_cut_of_a_real_film_is_seen(real: bytes) -> None:
    assert verdicts(real) == (None, None, None, len(real))
    walk = BoxWalk()
    for byte in real:
        assert walk.verdict(length_known=True) is not None
        walk.feed(bytes((byte,)))
    assert walk.verdict(length_known=False) is None


def test_a_real_film_of_a_given_size(real: bytes) -> None:
    padded = render_mp4(width=16, height=16, seconds=0.2, seed=7, size=len(real) + 5_000)
    assert verdicts(padded) == (None, None, None, len(real) + 5_000)


def test_bytes_after_the_end_are_seen(real: bytes) -> None:
    for more in range(1, 8):
        assert walked(real + bytes(more)).verdict(length_known=True) is not None
    assert walked(real, b"<html></html>").verdict(length_known=True) is not None


def test_a_last_box_without_a_size_is_believed_only_with_a_length() -> None:
    film = FTYP + MOOV + endless(b"mdat", 300)
    assert verdicts(film)[:3] == (
        None,
        None,
        "its last box has no size and the transfer had no length",
    )
    for cut in range(len(FTYP + MOOV), len(film)):
        assert walked(film[:cut]).verdict(length_known=False) is not None
    # With a length, it is the length that shows the cut.
    assert walked(film[:-1]).verdict(length_known=True) is None


@pytest.mark.parametrize(
    ("film", "words"),
    [
        pytest.param(b"", "no moov box", id="empty"),
        pytest.param(FTYP, "no moov box", id="ftyp-only"),
        pytest.param(FTYP + MOOV, "no mdat box", id="no-mdat"),
        pytest.param(FTYP + MDAT, "no moov box", id="no-moov"),
        pytest.param(FTYP + endless(b"moov", 9), "no mdat box", id="endless-moov"),
        pytest.param(endless(b"ftyp", 9), "no moov box", id="endless-ftyp"),
        pytest.param(FTYP + endless(b"mdat", 9), "no moov box", id="endless-mdat-first"),
        pytest.param(FTYP + MOOV + MDAT + box(b"moof"), "no mdat box", id="moof-without-mdat"),
        pytest.param(b"\0\0\0", "ends at byte 3", id="three-bytes"),
        pytest.param(
            FTYP + MOOV + MDAT[:7],
            f"inside a box that ends at {len(FTYP + MOOV)}",
            id="in-a-header",
        ),
        pytest.param(FTYP + MOOV + large(b"mdat", 9)[:12], "ends at byte", id="in-a-large-header"),
        pytest.param(MOOV + MDAT, "starts with", id="no-ftyp"),
        pytest.param(box(b"free") + FTYP + MOOV + MDAT, "starts with", id="free-first"),
        pytest.param(b"<!DOCTYPE html><html>", "starts with b'<!DOCTYP'", id="html"),
        pytest.param(b'{"code":404,"msg":"no"}', "starts with", id="json"),
        pytest.param(b"\x1aE\xdf\xa3" + bytes(40), "starts with", id="webm"),
        pytest.param(b"\x1b[31m\x1b[0m", "starts with", id="terminal"),
        pytest.param(bytes(100), "starts with", id="zeros"),
    ],
)
def test_what_is_no_film_is_named(film: bytes, words: str) -> None:
    verdict = walked(film).verdict(length_known=True)
    assert verdict is not None
    assert words in verdict
    assert verdict.isprintable()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7])
def test_a_box_smaller_than_its_header(size: int) -> None:
    walk = walked(FTYP + struct.pack(">I4s", size, b"mdat") + MOOV + MDAT)
    assert walk.fault == f"its box b'mdat' at {len(FTYP)} claims {size} bytes"
    assert walk.verdict(length_known=True) == walk.fault


@pytest.mark.parametrize("size", [0, 1, 8, 15])
def test_a_large_box_smaller_than_its_header(size: int) -> None:
    walk = walked(FTYP + MOOV + struct.pack(">I4sQ", 1, b"mdat", size) + bytes(40))
    assert walk.fault == f"its box b'mdat' at {len(FTYP + MOOV)} claims {size} bytes"


@pytest.mark.parametrize("size", [2**31, 2**32 - 1])
def test_a_box_larger_than_its_file(size: int) -> None:
    film = FTYP + MOOV + struct.pack(">I4s", size, b"mdat") + bytes(40)
    assert verdicts(film)[0] is None
    assert "inside a box" in (verdicts(film)[1] or "")


@pytest.mark.parametrize("size", [16, 2**32, 2**63, 2**64 - 1])
def test_a_large_box_of_any_size_costs_nothing(size: int) -> None:
    walk = walked(FTYP + MOOV + struct.pack(">I4sQ", 1, b"mdat", size))
    assert walk.fault is None
    assert (walk.verdict(length_known=True) is None) is (size == 16)


def test_nothing_is_read_after_a_fault() -> None:
    walk = walked(b"<html>  ", FTYP + MOOV + MDAT)
    assert walk.position == 8 + len(FTYP + MOOV + MDAT)
    assert "starts with" in (walk.verdict(length_known=True) or "")


def pieces_of(film: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(film), *(cut % (len(film) + 1) for cut in cuts)})
    return [film[start:end] for start, end in pairwise(places)]


boxes = st.one_of(
    st.sampled_from([FTYP, MOOV, MDAT, box(b"moof", 5), box(b"free"), large(b"mdat", 20)]),
    st.builds(box, st.sampled_from([b"ftyp", b"moov", b"mdat"]), st.integers(0, 30)),
    st.builds(
        struct.pack,
        st.just(">I4sQ"),
        st.integers(0, 20) | st.integers(0, 2**32 - 1),
        st.sampled_from([b"mdat", b"moov", b"\xff\0\n\x1b"]),
        st.integers(0, 40) | st.integers(0, 2**64 - 1),
    ),
    st.binary(max_size=20),
)
films = st.one_of(
    st.sampled_from([b"".join(layout) for layout, _ in LAYOUTS.values()]),
    st.lists(boxes, max_size=8).map(b"".join),
    st.lists(boxes, max_size=8).map(lambda found: FTYP + MOOV + b"".join(found)),
)


@given(films, st.lists(st.integers(0, 10_000), max_size=12))
def test_how_a_file_is_cut_into_pieces_does_not_matter(film: bytes, cuts: list[int]) -> None:
    pieces = pieces_of(film, cuts)
    assert b"".join(pieces) == film
    assert verdicts(*pieces) == verdicts(film)
    assert verdicts(*(bytes((byte,)) for byte in film)) == verdicts(film)


def test_any_kind_of_buffer_is_walked() -> None:
    film = FTYP + MOOV + MDAT
    walk = BoxWalk()
    walk.feed(bytearray(film[:30]))
    walk.feed(memoryview(film)[30:])
    walk.feed(b"")
    assert walk.verdict(length_known=False) is None
