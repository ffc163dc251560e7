"""What is wanted in the end, and where the file goes: checked before anything is paid."""

import os
from pathlib import Path
from typing import TypedDict

import attrs

from veo_async.errors import DownloadError, InvalidRequestError
from veo_async.models import Model
from veo_async.request import MAX_FRAMES, VideoRequest

__all__: list[str] = []


@attrs.frozen(kw_only=True)
class Target:
    """A file or a folder to download to.

    Attributes:
        output: The path as it was given, if it was.
        is_wanted: Whether anything is downloaded.
        may_replace: Whether a file that is there may be replaced.
    """

    output: str | None = None
    is_wanted: bool = True
    may_replace: bool = True

    @property
    def path(self) -> str:
        """The path that the client gets: this folder, unless another place was given."""
        return "." if self.output is None else self.output

    @property
    def repeated(self) -> tuple[str, ...]:
        """What a command that goes on must be told again."""
        told: list[str] = []
        if self.output is not None:
            told += ["-o", self.output]
        if not self.is_wanted:
            told.append("--no-download")
        if not self.may_replace:
            told.append("--no-overwrite")
        return tuple(told)

    def check(self, task_id: str | None = None) -> None:
        """Make the folder, and make sure that the file can be written.

        Args:
            task_id: The task, where it has a name already.

        Raises:
            InvalidRequestError: It cannot.
        """
        if not self.is_wanted:
            return
        from veo_async.files import prepare_folder, target_of  # noqa: PLC0415  # loads aiofiles

        try:
            file = target_of(self.path, task_id or "veo_task")
            prepare_folder(file.parent)
            is_there = _is_there(file)
        except DownloadError as error:
            raise self._refused(str(error)) from error
        except OSError as error:
            raise self._refused(f"{error.strerror}; choose another name") from error
        if is_there and not self.may_replace and (task_id is not None or not self._is_folder):
            raise self._refused("it exists already; choose another name, or drop --no-overwrite")

    @property
    def _is_folder(self) -> bool:
        return self.path.endswith(("/", os.sep)) or Path(self.path).is_dir()

    def _refused(self, why: str) -> InvalidRequestError:
        return InvalidRequestError(f"output {self.path}: {why}", field="output")


@attrs.frozen(kw_only=True)
class Errand:
    """What a command about one task is to bring.

    Attributes:
        task_id: The task, where it has a name already.
        target: Where its video goes.
        timeout: Seconds to wait for the video at most.
        upgrade: The resolution that is wanted, if it is another one.
        steps: The prompts of the extensions that make it a film.
        repeated: What a command that goes on with them must be told again, such as their model.
        is_awaited: Whether it is waited for at all.
        is_free: Whether it can cost nothing, and sends what is not a request.
        price: What it may cost, in credits.
        needs_live: Whether only the live service has what is wanted.
    """

    task_id: str | None = None
    target: Target = Target()
    timeout: float | None = None
    upgrade: str | None = None
    steps: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    is_awaited: bool = True
    is_free: bool = False
    price: int = 0
    needs_live: bool = False


def is_live_only(request: VideoRequest) -> bool:
    """Return whether the spec's service does not know what a request asks for."""
    return (
        request.model is Model.LITE
        or request.resolution is not None
        or request.duration is not None
        or len(request.image_urls) > MAX_FRAMES
        or bool(request.extensions)
    )


class SimulatorSettings(TypedDict):
    """The options of `simulate`."""

    host: str
    port: int
    dialect: str
    time_scale: float
    money: float
    key: str | None
    webhook_key: str | None
    faults: tuple[str, ...]


def _is_there(file: Path) -> bool:
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    return True
