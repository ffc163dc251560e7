"""What to do about the service's complaints, one row for each (live document, section 4).

The sentences are told apart by parts of them, in lower case, and mean something beside their codes
only.
"""

from collections.abc import Iterator
from typing import Final

import attrs

__all__: list[str] = []


@attrs.frozen(kw_only=True)
class Complaint:
    """One thing that the service complains of.

    Attributes:
        codes: The codes that it comes with.
        words: What its sentence holds, any of them; none where the code alone says it.
        step: What to do next.
        is_refusal: Whether it ends a task.
        is_bare: Whether the words are the whole sentence.
        is_lasting: Whether repeating the call is no use, although its code is one that may pass.
        is_of_the_edge: Whether it comes without an envelope, from what stands before the service.
    """

    codes: frozenset[int]
    words: tuple[str, ...] = ()
    step: str
    is_refusal: bool = False
    is_bare: bool = False
    is_lasting: bool = False
    is_of_the_edge: bool = False

    def is_meant(self, code: int | None, sentence: str) -> bool:
        """Return whether it is what a code and a sentence say; without a code, the sentence."""
        if code is None:
            return bool(self.words) and self._holds(sentence)
        return code in self.codes and (not self.words or self._holds(sentence))

    def _holds(self, sentence: str) -> bool:
        said = sentence.lower().strip(" .")
        return said in self.words if self.is_bare else any(part in said for part in self.words)


_WORDED: Final = frozenset({400, 422})


def _refusal(*words: str, step: str, is_bare: bool = False) -> Complaint:
    return Complaint(codes=_WORDED, words=words, step=step, is_refusal=True, is_bare=is_bare)


def _cap(period: str, wait: str) -> Complaint:
    return Complaint(
        codes=frozenset({433}),
        words=(f"{period} limit",),
        step=f"raise the {period} cap of the key in the account's settings{wait}",
    )


_IMAGE: Final = "make the image's URL public, or upload the image with veo.upload()"

COMPLAINTS: Final = (
    _refusal("flagged", "content polic", step="reword the prompt"),
    _refusal(
        "only english prompts",
        step="write the prompt in English, or leave enable_translation on",
    ),
    _refusal("fetch the image", step=_IMAGE),
    Complaint(codes=frozenset({451}), step=_IMAGE, is_refusal=True),
    _refusal("unsafe image", step="use another image"),
    _refusal("unable to generate audio", step="change what is heard in the prompt"),
    _refusal("rejected by flow", step="change the prompt or the images"),
    # All that is said of a prompt with the name of a real person.
    _refusal("failed", step="take the names of real people out of the prompt", is_bare=True),
    Complaint(
        codes=frozenset({422}),
        words=("within 14 days",),
        step="make the video again: records and files are kept for 14 days",
    ),
    Complaint(
        codes=frozenset({422}),
        words=("status is not success", "result data"),
        step="ask again in a minute: the video that it is made from is not ready",
    ),
    Complaint(
        codes=frozenset({500}),
        words=("4k version of this video is unavailable",),
        step="upgrade another video, or take this one in 1080p",
        is_refusal=True,
        is_lasting=True,
    ),
    _cap("hourly", ", or wait until it resets"),
    _cap("daily", ", or wait until it resets"),
    _cap("total", ""),
    Complaint(
        codes=frozenset({505}),
        step="do without it: it is switched off, and not available",
        is_lasting=True,
    ),
    Complaint(
        codes=frozenset({403}),
        words=("error code: 1010",),
        step="let the User-Agent header pass, which a proxy in between strips",
        is_lasting=True,
        is_of_the_edge=True,
    ),
)


def _meant(code: int | None, sentence: str) -> Iterator[Complaint]:
    return (each for each in COMPLAINTS if each.is_meant(code, sentence))


def step_after(code: int | None, sentence: str, *, is_enveloped: bool = True) -> str | None:
    """Return what to do about what the service says, where that is known."""
    known = (each for each in _meant(code, sentence) if each.is_of_the_edge != is_enveloped)
    return next((each.step for each in known), None)


def is_refusal(code: int | None, sentence: str) -> bool:
    """Return whether what the service says ends a task, for a reason that is known."""
    return any(each.is_refusal for each in _meant(code, sentence))


def is_lasting(code: int | None, sentence: str) -> bool:
    """Return whether it is no use to ask again, although the code sounds so."""
    return any(each.is_lasting for each in _meant(code, sentence))
