"""A real browser plays a video from the README's applications, and seeks in it."""

import pytest

from tests.web.chromium import browsing
from tests.web.serving import serving, simulator

pytestmark = pytest.mark.anyio

PLAY = """
const video = document.createElement("video");
video.muted = true;
video.src = SOURCE;
document.body.replaceChildren(video);
const event = (name) => new Promise((done, failed) => {
  video.addEventListener(name, done, { once: true });
  video.onerror = () => failed(new Error(video.error.message));
});
await event("loadedmetadata");
const { duration, videoWidth: width, videoHeight: height } = video;
await video.play();
while (video.currentTime < 0.3) await new Promise((done) => setTimeout(done, 20));
const played = video.currentTime;
video.pause();
const sought = [];
for (const time of [8.5, 2.5, 9.5]) {
  video.currentTime = time;
  await event("seeked");
  sought.push([video.currentTime, video.readyState]);
}
const canvas = new OffscreenCanvas(width, height).getContext("2d");
canvas.drawImage(video, 0, 0);
const pixels = canvas.getImageData(0, 0, width, height).data;
const shades = new Set();
for (let at = 0; at < pixels.length; at += 4) shades.add(pixels.slice(at, at + 3).join());
return { duration, width, height, played, sought, shades: shades.size };
"""


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_chromium_plays_and_seeks(server, tmp_path, unused_tcp_port, tool):
    program = tool("chromium", "chromium")
    async with (
        simulator(clip=(320, 180), video_bytes=20_000_000) as sim,
        serving(server, tmp_path, unused_tcp_port, sim, workers=1) as site,
    ):
        made = await site.submit("a boat")
        await site.until_made(made)
        page_url = f"{site.url}/videos/{made}"
        async with browsing(program, tmp_path / "profile", page_url) as page:
            seen = await page.run(PLAY.replace("SOURCE", f'"/videos/{made}/file"'))
            tmp_path.joinpath("played.png").write_bytes(await page.screenshot())
        assert seen["duration"] == pytest.approx(10, abs=0.1)
        assert (seen["width"], seen["height"]) == (320, 180)
        assert 0.3 <= seen["played"] < 10
        for (time, ready), wanted in zip(seen["sought"], [8.5, 2.5, 9.5], strict=True):
            assert time == pytest.approx(wanted, abs=0.05)
            assert ready >= 2  # HAVE_CURRENT_DATA
        assert seen["shades"] > 20
        assert site.trouble() == ""
