"""The report of a bulk run: one HTML page, opened from the folder that holds its videos."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Final

from veo_async.models import JSON

__all__: list[str] = []

_PLACE: Final = "__RUN__"
# A script element ends at the first "</script" and may be opened a second time by "<!--", whatever
# the JSON around them means; inside its strings these escapes mean the same characters.
_ESCAPES: Final = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def page(run: Mapping[str, JSON]) -> str:
    """Return the page that shows a run; it needs nothing but the videos beside it.

    It can always be written as UTF-8, also where a name in the run holds bytes that are no text.

    Raises:
        ValueError: A number is infinite or not a number, which JSON cannot say.
    """
    template = resources.files("veo_async").joinpath("gallery.html").read_text(encoding="utf-8")
    data = json.dumps(dict(run), allow_nan=False, separators=(",", ":"))
    return template.replace(_PLACE, data.translate(_ESCAPES), 1)
