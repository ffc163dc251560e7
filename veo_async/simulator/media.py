"""Real MP4 files out of nothing but the standard library: H.264 picture, AAC sound, any size."""

import io
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, zip_longest
from typing import Final

from veo_async.simulator._aac import AUDIO_CONFIG, FRAME_SAMPLES, SAMPLE_RATE, audio_frames
from veo_async.simulator._h264 import VideoEncoder
from veo_async.simulator._picture import Landscape

__all__ = ["render_mp4"]

_MOST_BYTES: Final = 2**32 - 1  # boxes and chunk offsets are 32 bits wide here
_MOST_SECONDS: Final = 3_600  # the file is made in memory, at 10 ms of CPU or more for each
_MOST_FPS: Final = 240

_KEY_FRAME_SECONDS: Final = 2
_TICKS_PER_FRAME: Final = 512
_MOVIE_TIMESCALE: Final = SAMPLE_RATE
_BOX_HEADER: Final = 8
_UNDETERMINED: Final = 0x55C4  # language "und"
_FILLER_PIECE: Final = 1 << 20
_UPRIGHT: Final = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def render_mp4(
    *, width: int, height: int, seconds: float, seed: int, fps: int = 24, size: int | None = None
) -> bytes:
    """Make a playable MP4 with its index in front; the same arguments give the same bytes.

    It is work for the CPU (about 0.1 s for 8 s of 720p), so an event loop hands it to a thread.

    Args:
        width: Pixels, even.
        height: Pixels, even.
        seconds: Length of both tracks; the picture's is rounded to whole frames.
        seed: Decides colours, motion and tune.
        fps: Frames per second.
        size: Bytes to pad the file to, with noise that depends on the seed; ignored where the file
            is as large already.

    Raises:
        ValueError: An argument is out of range.
    """
    _check(width=width, height=height, seconds=seconds, fps=fps, size=size)
    video = _video(width=width, height=height, seconds=seconds, seed=seed, fps=fps)
    tracks = (video, _audio(seconds=seconds, seed=seed))
    natural = _file(tracks)
    gap = (size or 0) - len(natural)
    if gap <= 0:
        return natural
    if gap < _BOX_HEADER:
        return _file(tracks, slack=b"".join(_noise(seed, gap)))
    padded = io.BytesIO()
    padded.write(natural)
    padded.write(struct.pack(">I4s", gap, b"free"))
    padded.writelines(_noise(seed, gap - _BOX_HEADER))
    return padded.getvalue()


def _check(*, width: int, height: int, seconds: float, fps: int, size: int | None) -> None:
    for name, pixels in (("width", width), ("height", height)):
        if pixels <= 0 or pixels % 2:
            raise ValueError(f"{name} must be a positive even number, not {pixels}")
    if not 0 < seconds <= _MOST_SECONDS:
        raise ValueError(f"seconds must be above 0 and at most {_MOST_SECONDS}, not {seconds}")
    if not 0 < fps <= _MOST_FPS:
        raise ValueError(f"fps must be from 1 to {_MOST_FPS}, not {fps}")
    if size is not None and size > _MOST_BYTES:
        raise ValueError(f"size must be at most {_MOST_BYTES} bytes, not {size}")


def _noise(seed: int, length: int) -> Iterator[bytes]:
    chance = random.Random(f"noise {seed}")  # noqa: S311  filler is no secret
    for start in range(0, length, _FILLER_PIECE):
        yield chance.randbytes(min(_FILLER_PIECE, length - start))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """The samples of one track and what the index says about them.

    Attributes:
        timescale: Ticks per second.
        samples: Coded frames, in order.
        durations: Ticks of each.
        keys: Numbers of the key frames, counted from one; None where every sample is one.
        handler: The handler box.
        header: The media header box.
        entry: The sample entry box.
        width: Pixels; 0 for sound.
        height: Pixels; 0 for sound.
    """

    timescale: int
    samples: list[bytes]
    durations: list[int]
    keys: list[int] | None = None
    handler: bytes
    header: bytes
    entry: bytes
    width: int = 0
    height: int = 0

    def chunks(self) -> list[list[bytes]]:
        """Return the samples in groups, one for each second."""
        starts = accumulate(self.durations, initial=0)
        timed = zip(starts, self.samples, strict=False)
        seconds = groupby(timed, lambda sample: sample[0] // self.timescale)
        return [[data for _, data in group] for _, group in seconds]


def _video(*, width: int, height: int, seconds: float, seed: int, fps: int) -> _Track:
    encoder = VideoEncoder(width=width, height=height, fps=fps)
    landscape = Landscape(columns=encoder.columns, rows=encoder.rows, seed=seed)
    samples: list[bytes] = []
    keys: list[int] = []
    for number in range(max(1, round(seconds * fps))):
        changed = landscape.move_to(number / fps)
        key, since_key = divmod(number, _KEY_FRAME_SECONDS * fps)
        if since_key:
            nal = encoder.delta_frame(landscape.squares, changed, number=since_key)
        else:
            nal = encoder.key_frame(landscape.squares, number=key)
            keys.append(number + 1)
        samples.append(_u32(len(nal)) + nal)
    return _Track(
        timescale=fps * _TICKS_PER_FRAME,
        samples=samples,
        durations=[_TICKS_PER_FRAME] * len(samples),
        keys=keys,
        handler=_handler(b"vide", b"Simulated picture"),
        header=_full(b"vmhd", bytes(8), flags=1),
        entry=_avc1(width, height, encoder),
        width=width,
        height=height,
    )


def _audio(*, seconds: float, seed: int) -> _Track:
    ticks = max(1, round(seconds * SAMPLE_RATE))
    whole, rest = divmod(ticks, FRAME_SAMPLES)
    durations = [FRAME_SAMPLES] * whole + [rest] * bool(rest)
    samples = list(audio_frames(seed, len(durations)))
    return _Track(
        timescale=SAMPLE_RATE,
        samples=samples,
        durations=durations,
        handler=_handler(b"soun", b"Simulated sound"),
        header=_full(b"smhd", bytes(4)),
        entry=_mp4a(),
    )


def _file(tracks: Sequence[_Track], *, slack: bytes = b"") -> bytes:
    """Put index and samples together, with bytes after the last sample that no track uses."""
    ftyp = _box(b"ftyp", b"isom", _u32(0x200), b"isomiso2avc1mp41")
    chunks = [track.chunks() for track in tracks]
    # Which numbers the index holds does not change its length.
    unplaced = _moov(tracks, chunks, [[0] * len(of_track) for of_track in chunks])
    start = len(ftyp) + len(unplaced) + _BOX_HEADER
    order, offsets = _interleaved(chunks, start)
    return ftyp + _moov(tracks, chunks, offsets) + _box(b"mdat", *order, slack)


def _interleaved(
    chunks: Sequence[Sequence[list[bytes]]], start: int
) -> tuple[list[bytes], list[list[int]]]:
    """Lay the chunks of all tracks out by turns; return their bytes, and offsets per track."""
    order: list[bytes] = []
    offsets: list[list[int]] = [[] for _ in chunks]
    for turn in zip_longest(*chunks):
        for of_track, chunk in zip(offsets, turn, strict=True):
            if chunk is not None:
                of_track.append(start)
                order.append(b"".join(chunk))
                start += len(order[-1])
    return order, offsets


def _moov(
    tracks: Sequence[_Track],
    chunks: Sequence[Sequence[list[bytes]]],
    offsets: Sequence[Sequence[int]],
) -> bytes:
    lengths = [sum(track.durations) * _MOVIE_TIMESCALE // track.timescale for track in tracks]
    mvhd = _full(
        b"mvhd",
        struct.pack(">4I", 0, 0, _MOVIE_TIMESCALE, max(lengths)),
        struct.pack(">IH10x", 1 << 16, 1 << 8),  # normal speed, full volume
        _UPRIGHT,
        bytes(24),
        _u32(len(tracks) + 1),
    )
    traks = [
        _trak(number, *parts)
        for number, parts in enumerate(zip(tracks, lengths, chunks, offsets, strict=True), start=1)
    ]
    return _box(b"moov", mvhd, *traks)


def _trak(
    number: int,
    track: _Track,
    length: int,
    chunks: Sequence[list[bytes]],
    offsets: Sequence[int],
) -> bytes:
    tkhd = _full(
        b"tkhd",
        struct.pack(">5I8x", 0, 0, number, 0, length),
        struct.pack(">4H", 0, 0, 0 if track.width else 1 << 8, 0),
        _UPRIGHT,
        struct.pack(">2I", track.width << 16, track.height << 16),
        flags=3,
    )
    mdhd = _full(
        b"mdhd",
        struct.pack(">4I", 0, 0, track.timescale, sum(track.durations)),
        struct.pack(">2H", _UNDETERMINED, 0),
    )
    dref = _full(b"dref", _u32(1), _full(b"url ", flags=1))
    minf = _box(b"minf", track.header, _box(b"dinf", dref), _stbl(track, chunks, offsets))
    return _box(b"trak", tkhd, _box(b"mdia", mdhd, track.handler, minf))


def _stbl(track: _Track, chunks: Sequence[list[bytes]], offsets: Sequence[int]) -> bytes:
    durations = [(len(list(run)), ticks) for ticks, run in groupby(track.durations)]
    lengths = [len(chunk) for chunk in chunks]
    changes = [
        (number, length, 1)
        for number, length in enumerate(lengths, start=1)
        if lengths[number - 2 : number - 1] != [length]
    ]
    return _box(
        b"stbl",
        _full(b"stsd", _u32(1), track.entry),
        _table(b"stts", durations),
        *([_table(b"stss", [(key,) for key in track.keys])] if track.keys else ()),
        _table(b"stsc", changes),
        _full(b"stsz", _u32(0), _u32(len(track.samples)), *map(_u32, map(len, track.samples))),
        _table(b"stco", [(offset,) for offset in offsets]),
    )


def _avc1(width: int, height: int, encoder: VideoEncoder) -> bytes:
    avcc = _box(
        b"avcC",
        b"\1" + encoder.sps[1:4],  # profile, constraints and level
        struct.pack(">BBH", 0xFF, 0xE1, len(encoder.sps)),  # 4-byte lengths; one sequence set
        encoder.sps,
        struct.pack(">BH", 1, len(encoder.pps)),
        encoder.pps,
    )
    return _box(
        b"avc1",
        struct.pack(">6xH16x", 1),
        struct.pack(">HHII4xH", width, height, 72 << 16, 72 << 16, 1),  # 72 dpi, 1 frame a sample
        bytes(32),
        struct.pack(">Hh", 24, -1),
        avcc,
    )


def _mp4a() -> bytes:
    """Describe the sound: an ES_Descriptor (ISO/IEC 14496-1) inside a sample entry."""
    decoder = struct.pack(">BB3x2I", 0x40, 0x15, 0, 0)  # MPEG-4 audio; bit rates unsaid
    config = _descriptor(4, decoder + _descriptor(5, AUDIO_CONFIG))
    esds = _full(b"esds", _descriptor(3, bytes(3) + config + _descriptor(6, b"\2")))
    return _box(b"mp4a", struct.pack(">6xH8xHH4xI", 1, 1, 16, SAMPLE_RATE << 16), esds)


def _descriptor(tag: int, body: bytes) -> bytes:
    return bytes((tag, len(body))) + body


def _handler(kind: bytes, name: bytes) -> bytes:
    return _full(b"hdlr", bytes(4), kind, bytes(12), name, b"\0")


def _table(kind: bytes, rows: Sequence[tuple[int, ...]]) -> bytes:
    return _full(kind, _u32(len(rows)), *(_u32(value) for row in rows for value in row))


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, _u32(flags), *parts)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", _BOX_HEADER + len(body), kind) + body


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
