"""The simulator's MP4s, judged by ffprobe, ffmpeg and a box walk written for this file."""

import array
import cmath
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from veo_async.simulator import _aac
from veo_async.simulator._h264 import MACROBLOCK, Colour, VideoEncoder
from veo_async.simulator._picture import Landscape
from veo_async.simulator.media import render_mp4

SIZES = [
    (1280, 720),
    (720, 1280),
    (1920, 1080),
    (1080, 1920),
    (3840, 2160),
    (2160, 3840),
    (64, 36),
    (50, 46),
    (16, 16),
    (2, 2),
]
RATE = 48_000


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is missing; install the apt package ffmpeg"
        if os.environ.get("VEO_ASYNC_TEST_TOOLS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def ffprobe() -> str:
    return tool("ffprobe")


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    return tool("ffmpeg")


def run(*command: str | Path, data: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout


def probe(ffprobe: str, path: Path, *more: str) -> dict[str, Any]:
    shown = ("-show_format", "-show_streams", *more, "-of", "json")
    found: dict[str, Any] = json.loads(run(ffprobe, "-v", "error", *shown, path))
    return found


def decode(ffmpeg: str, path: Path, *to: str) -> bytes:
    strict = ("-v", "error", "-xerror", "-err_detect", "explode")
    return run(ffmpeg, *strict, "-i", path, *to, "-")


def small(*, seed: int = 7, size: int | None = None) -> bytes:
    return render_mp4(width=64, height=36, seconds=1.0, seed=seed, size=size)


def small_of(seconds: float) -> bytes:
    return render_mp4(width=64, height=36, seconds=seconds, seed=7)


def boxes(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield kind, offset of the payload, and payload."""
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= length <= len(data) - at
        yield kind.decode(), at + 8, data[at + 8 : at + length]
        at += length


def stbl_of(trak: bytes) -> Iterator[tuple[str, bytes]]:
    for kind, _, body in boxes(trak):
        if kind in {"mdia", "minf", "stbl"}:
            yield from stbl_of(body)
        else:
            yield kind, body


def numbers(table: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(table) // 4}I", table)[1:]


def planes(picture: Sequence[Colour], columns: int, width: int, height: int) -> bytes:
    """Draw squares as the YUV 4:2:0 samples a decoder should give."""
    drawn = bytearray()
    for plane, square in ((0, MACROBLOCK), (1, MACROBLOCK // 2), (2, MACROBLOCK // 2)):
        shrink = MACROBLOCK // square
        for y in range(height // shrink):
            row = picture[y // square * columns :][:columns]
            samples = b"".join(bytes([colour[plane]]) * square for colour in row)
            drawn += samples[: width // shrink]
    return bytes(drawn)


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert small(seed=11) == small(seed=11)


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    code = "import sys; from veo_async.simulator.media import render_mp4; sys.stdout.buffer.write("
    code += "render_mp4(width=64, height=36, seconds=1.0, seed=7))"
    command = (sys.executable, "-c", code)
    environment = {**os.environ, "PYTHONHASHSEED": "4", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == small(seed=7)


def test_seeds_give_different_files() -> None:
    seeds = (*range(-3, 20), 10_000, 99_999, 2**70)
    assert len({small(seed=seed) for seed in seeds}) == len(seeds)


def test_the_index_comes_first() -> None:
    natural = small()
    assert [kind for kind, _, _ in boxes(natural)] == ["ftyp", "moov", "mdat"]
    assert [kind for kind, _, _ in boxes(small(size=len(natural) + 100))][-2:] == ["mdat", "free"]


def test_chunks_alternate_and_fill_the_data_exactly() -> None:
    found = {kind: (at, body) for kind, at, body in boxes(small_of(3.5))}
    start, data = found["mdat"]
    tables = [dict(stbl_of(trak)) for kind, _, trak in boxes(found["moov"][1]) if kind == "trak"]
    offsets = [numbers(table["stco"])[1:] for table in tables]
    assert [len(of_track) for of_track in offsets] == [4, 4]
    assert min(map(min, offsets)) == start
    turns = [offset for turn in zip(*offsets, strict=True) for offset in turn]
    assert turns == sorted(turns)
    sizes = [sum(numbers(table["stsz"])[2:]) for table in tables]
    assert sum(sizes) == len(data)


@pytest.mark.parametrize("gap", range(1, 21))
def test_padding_is_exact_to_the_byte(gap: int) -> None:
    size = len(small()) + gap
    padded = small(size=size)
    assert len(padded) == size
    assert sum(8 + len(body) for _, _, body in boxes(padded)) == size


@pytest.mark.parametrize("gap", [1, 7, 8, 9, 5_000_000])
def test_padded_files_decode(ffmpeg: str, tmp_path: Path, gap: int) -> None:
    path = tmp_path / "padded.mp4"
    path.write_bytes(small(size=len(small()) + gap))
    assert decode(ffmpeg, path, "-f", "null") == b""


def test_a_size_below_the_natural_one_is_ignored() -> None:
    natural = small()
    assert [small(size=size) for size in (-1, 0, 1, len(natural))] == [natural] * 4


def test_padding_is_noise_that_depends_on_the_seed() -> None:
    megabyte = 1 << 20
    size = 4 * megabyte
    filler = small(size=size)[-3 * megabyte :]
    assert len(zlib.compress(filler, 1)) > 0.99 * len(filler)
    pieces = {filler[at : at + megabyte] for at in range(0, len(filler), megabyte)}
    pieces.add(small(seed=8, size=size)[-megabyte:])
    assert len(pieces) == 4


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, "width"),
        ({"width": -16}, "width"),
        ({"width": 63}, "width"),
        ({"height": 35}, "height"),
        ({"height": 0}, "height"),
        ({"width": 20_000}, "width"),
        ({"width": 9_000, "height": 9_000}, "height"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
        ({"seconds": math.inf}, "seconds"),
        ({"fps": 0}, "fps"),
        ({"fps": 1_000_000}, "fps"),
        ({"size": 2**32}, "size"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, float], named: str) -> None:
    right: dict[str, Any] = {"width": 64, "height": 36, "seconds": 1.0, "seed": 7}
    with pytest.raises(ValueError, match=named):
        render_mp4(**{**right, **wrong})


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_ffprobe_sees_what_was_asked_for(
    ffprobe: str, tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(render_mp4(width=width, height=height, seconds=0.5, seed=3))
    found = probe(ffprobe, path)
    video, audio = found["streams"]
    assert "mp4" in found["format"]["format_name"].split(",")
    assert (video["codec_name"], video["width"], video["height"]) == ("h264", width, height)
    assert (video["profile"], video["pix_fmt"]) == ("Constrained Baseline", "yuv420p")
    assert (video["avg_frame_rate"], video["nb_frames"]) == ("24/1", "12")
    assert (audio["codec_name"], audio["profile"], audio["channels"]) == ("aac", "LC", 1)
    assert audio["sample_rate"] == str(RATE)
    durations = [float(part["duration"]) for part in (video, audio, found["format"])]
    assert durations == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_ffmpeg_decodes_without_a_word(
    ffmpeg: str, tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(render_mp4(width=width, height=height, seconds=0.5, seed=3))
    assert decode(ffmpeg, path, "-f", "null") == b""


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [
        (0.01, 24, 1),
        (0.5, 30, 15),
        (1.02, 24, 24),
        (1.3, 24, 31),
        (2.0, 25, 50),
        (5.04, 24, 121),
        (1.0, 60, 60),
    ],
)
def test_both_tracks_last_as_long_as_asked(
    ffprobe: str, tmp_path: Path, seconds: float, fps: int, frames: int
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(render_mp4(width=64, height=36, seconds=seconds, seed=3, fps=fps))
    video, audio = probe(ffprobe, path, "-count_frames")["streams"]
    assert video["nb_read_frames"] == str(frames)
    assert abs(float(video["duration"]) - seconds) < 1 / fps
    assert abs(float(audio["duration"]) - seconds) < 1 / RATE


@pytest.mark.parametrize(
    ("width", "height", "fps", "level"),
    [
        (64, 36, 24, 20),
        (1280, 720, 24, 31),
        (720, 1280, 60, 32),
        (1920, 1080, 24, 40),
        (1080, 1920, 60, 42),
        (3840, 2160, 24, 51),
        (2160, 3840, 60, 52),
        (4096, 16, 24, 40),  # few squares, but a row of 256 is too long for the levels below
    ],
)
def test_the_level_allows_size_and_rate(width: int, height: int, fps: int, level: int) -> None:
    assert VideoEncoder(width=width, height=height, fps=fps).sps[3] == level


def test_a_key_frame_starts_every_two_seconds(ffprobe: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(small_of(5.0))
    packets = probe(ffprobe, path, "-select_streams", "v", "-show_packets")["packets"]
    keys = [float(packet["pts_time"]) for packet in packets if packet["flags"].startswith("K")]
    assert keys == [0.0, 2.0, 4.0]


def test_every_frame_shows_the_landscape_to_the_bit(ffmpeg: str, tmp_path: Path) -> None:
    width, height, seconds, seed = 200, 120, 4.5, 21
    path = tmp_path / "clip.mp4"
    path.write_bytes(render_mp4(width=width, height=height, seconds=seconds, seed=seed))
    shown = decode(ffmpeg, path, "-f", "rawvideo")
    columns, rows = 13, 8
    landscape = Landscape(columns=columns, rows=rows, seed=seed)
    length = width * height * 3 // 2
    assert len(shown) == length * round(seconds * 24)
    for number, at in enumerate(range(0, len(shown), length)):
        landscape.move_to(number / 24)
        expected = planes(landscape.squares, columns, width, height)
        assert shown[at : at + length] == expected, f"frame {number}"


def test_any_colours_survive_the_codec(ffmpeg: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    extremes = (0, 1, 2, 8, 9, 127, 128, 129, 247, 254, 255)

    def colour() -> Colour:
        if chance.random() < 0.5:
            return chance.choice(extremes), chance.choice(extremes), chance.choice(extremes)
        return chance.randrange(256), chance.randrange(256), chance.randrange(256)

    encoder = VideoEncoder(width=118, height=74, fps=24)
    picture = [colour() for _ in range(8 * 5)]
    nals = [encoder.sps, encoder.pps]
    expected = b""
    for number in range(60):
        since_key = number % 40
        changed = sorted(chance.sample(range(len(picture)), chance.choice((0, 1, 3, 40))))
        for index in changed:
            picture[index] = colour()
        nals.append(
            encoder.delta_frame(picture, changed, number=since_key)
            if since_key
            else encoder.key_frame(picture, number=number)
        )
        expected += planes(picture, 8, 118, 74)
    path = tmp_path / "clip.h264"
    path.write_bytes(b"".join(b"\0\0\0\1" + nal for nal in nals))
    assert decode(ffmpeg, path, "-f", "rawvideo") == expected


def test_no_start_code_hides_inside_a_frame() -> None:
    encoder = VideoEncoder(width=1280, height=720, fps=24)
    grey = [(128, 128, 128)] * 3_600
    for nal in (encoder.key_frame(grey, number=0), encoder.delta_frame(grey, (), number=1)):
        assert not any(b"\0\0" + bytes([last]) in nal for last in range(3))


def test_the_picture_moves() -> None:
    landscape = Landscape(columns=80, rows=45, seed=5)
    landscape.move_to(0.0)
    moves = [len(landscape.move_to(number / 24)) for number in range(1, 97)]
    assert min(moves) > 0
    assert max(moves) < 0.1 * len(landscape.squares)


def test_changed_squares_are_all_and_only_those_that_differ() -> None:
    landscape = Landscape(columns=20, rows=12, seed=5)
    for number in range(60):
        before = list(landscape.squares)
        changed = landscape.move_to(number / 6)
        pairs = enumerate(zip(before, landscape.squares, strict=True))
        assert changed == [index for index, (old, new) in pairs if old != new]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (0, 1), (10_000, 10_001), (99_998, 99_999)])
def test_two_seeds_look_different(ffmpeg: str, tmp_path: Path, one: int, other: int) -> None:
    frames: list[bytes] = []
    for seed in (one, other):
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(render_mp4(width=320, height=180, seconds=0.1, seed=seed))
        frames.append(
            decode(ffmpeg, path, *["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"])
        )
    apart = [abs(a - b) for a, b in zip(*frames, strict=True)]
    assert sum(apart) / len(apart) > 10


@pytest.mark.parametrize(("columns", "rows"), [(80, 45), (45, 80), (120, 68), (240, 135)])
def test_the_picture_says_that_it_is_simulated(columns: int, rows: int) -> None:
    squares = Landscape(columns=columns, rows=rows, seed=9).squares
    white = {index for index, (y, _, _) in enumerate(squares) if y == 228}
    lit = sorted({index % columns for index in white})
    gaps = [b - a for a, b in pairwise(lit) if b - a > 1]
    assert len(gaps) == len("SIMULATED") - 1
    assert len(set(gaps)) == 1


def sound(ffmpeg: str, folder: Path, seed: int) -> list[float]:
    path = folder / f"{seed}.mp4"
    path.write_bytes(render_mp4(width=16, height=16, seconds=4.0, seed=seed))
    samples = array.array("f", decode(ffmpeg, path, "-map", "0:a", "-f", "f32le"))
    assert len(samples) == 188 * 1024
    return samples.tolist()


def spectrum(samples: Sequence[float]) -> list[float]:
    """Return the amplitude of each bin a note or its octave can be in, through a Hann window."""
    length = len(samples)
    turns = [cmath.exp(-2j * math.pi * at / length) for at in range(length)]
    windowed = [sample * (1 - turn.real) for sample, turn in zip(samples, turns, strict=True)]
    return [
        2 / length * abs(sum(value * turns[at * k % length] for at, value in enumerate(windowed)))
        for k in range(80)
    ]


def lowest_note(heard: Sequence[float]) -> int:
    return next(k for k, level in enumerate(heard) if level > 0.8 * max(heard))


def assert_clear(heard: Sequence[float], note: int, *, noise: float) -> None:
    """Two equal lines, as wide as the Hann window makes them, and silence between."""
    assert heard[2 * note] == pytest.approx(heard[note], rel=0.01)
    lines = {line + beside for line in (note, 2 * note) for beside in (-1, 0, 1)}
    assert max(level for k, level in enumerate(heard) if k not in lines) < noise * heard[note]


@pytest.mark.parametrize("seed", [0, 5, 12_345])
def test_the_sound_is_audible_and_comfortable(ffmpeg: str, tmp_path: Path, seed: int) -> None:
    samples = sound(ffmpeg, tmp_path, seed)
    peak = max(map(abs, samples))
    mean = math.sqrt(sum(sample**2 for sample in samples) / len(samples))
    assert -23 < 20 * math.log10(peak) < -18
    assert -36 < 20 * math.log10(mean) < -24


@pytest.mark.parametrize("seed", [0, 1, 4, 12])
def test_the_sound_is_a_clear_note_and_its_octave(ffmpeg: str, tmp_path: Path, seed: int) -> None:
    heard = spectrum(sound(ffmpeg, tmp_path, seed)[5 * 1024 : 7 * 1024])
    assert 200 < lowest_note(heard) * RATE / 2048 < 800
    # The gain falls from frame to frame, which is a modulation.
    assert_clear(heard, lowest_note(heard), noise=0.05)


def test_every_note_is_clear(ffmpeg: str, tmp_path: Path) -> None:
    notes = (*range(10, 20), *range(35, 39))  # each place in a quad, odd and even
    frames = [_aac._frame(note, 180, number % 2) for note in notes for number in range(4)]
    # ADTS: AAC-LC, 48 kHz, one channel, frame length with the header of 7 bytes, no CRC.
    head = 0xFFF14C40001FFC
    adts = b"".join((head | len(frame) + 7 << 13).to_bytes(7, "big") + frame for frame in frames)
    path = tmp_path / "notes.aac"
    path.write_bytes(adts)
    samples = array.array("f", decode(ffmpeg, path, "-f", "f32le")).tolist()
    for number, note in enumerate(notes):
        start = (4 * number + 1) * 1024
        heard = spectrum(samples[start : start + 2048])
        assert lowest_note(heard) == note
        assert_clear(heard, note, noise=0.001)


def test_neighbouring_seeds_sound_different(ffmpeg: str, tmp_path: Path) -> None:
    first, second = (
        lowest_note(spectrum(sound(ffmpeg, tmp_path, seed)[5 * 1024 : 7 * 1024])) for seed in (1, 2)
    )
    assert first != second
