"""Price lists: those of the package by name, or one of the account's own from a JSON file."""

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import attrs

from veo_async.cli.cells import parsed
from veo_async.cli.tables import refused
from veo_async.cli.wording import shown
from veo_async.models import JSON, JSONObject, Model, Resolution
from veo_async.prices import DEARER, PRICES, Prices

__all__: list[str] = []

USD_PER_CREDIT: Final = 0.005  # live document 2.12
_MOST_BYTES: Final = 64 * 1024  # a list has about 500
_MEMBERS: Final = ("videos", "extensions", "upgrade_1080p", "upgrade_4k", "dated")
_SHOWN: Final = "`veo-async models --json` shows some"


def price_list(given: str) -> Prices:
    """Return a price list by its name, or from a file.

    What it does not name costs what the dearer of the two lists says.

    Raises:
        ConfigurationError: There is no such list, or the file holds none.
    """
    known = PRICES.get(given)
    return _read(shown(given), Path(given)) if known is None else known


def listed(prices: Prices) -> dict[str, JSON]:
    """Return a price list as the file of one, which can be edited and given back."""
    return {
        "dated": prices.dated,
        "videos": {
            str(model): {str(resolution): price for resolution, price in row.items()}
            for model, row in prices.videos.items()
        },
        "extensions": {str(model): price for model, price in prices.extensions.items()},
        "upgrade_1080p": prices.upgrade_1080p,
        # The spec's list has no such upgrade, which is not to say that it is free.
        **({"upgrade_4k": prices.upgrade_4k} if prices.upgrade_4k else {}),
    }


def _read(name: str, path: Path) -> Prices:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise refused(
            name,
            f"neither a price list nor a file; choose {', '.join(PRICES)}, or give a JSON file"
            f" ({_SHOWN})",
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise refused(name, f"{why}; give a JSON file with prices") from error
    if len(data) > _MOST_BYTES:
        raise refused(name, f"longer than {_MOST_BYTES} bytes; give a JSON file with prices")
    try:
        value = parsed(data.decode("utf-8-sig"))
    except ValueError as error:
        why = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise refused(name, f"{why}; give a JSON object with prices ({_SHOWN})") from None
    return _List(name).prices(value)


@attrs.frozen
class _List:
    """The reader of one file.

    Attributes:
        name: What messages call it.
    """

    name: str

    def prices(self, value: JSON) -> Prices:
        members = self._object("", value, _MEMBERS)
        if not members.keys() - {"dated"}:
            self._refuse("", f"no price is in it; give some of {', '.join(_MEMBERS)}")
        videos = self._object("videos", members.get("videos", {}), Model)
        extensions = self._object("extensions", members.get("extensions", {}), Model)
        dated = members.get("dated", "")
        if not isinstance(dated, str):
            self._refuse("dated", f"it is {_said(dated)}; give a text")
        return Prices(
            name=self.name,
            videos={model: self._row(model, videos.get(model)) for model in Model},
            extensions={
                model: self._credits(f"extensions.{model}", extensions[model])
                if model in extensions
                else DEARER.extension(model)
                for model in Model
            },
            upgrade_1080p=self._credits(
                "upgrade_1080p", members.get("upgrade_1080p", DEARER.upgrade_1080p)
            ),
            upgrade_4k=self._credits("upgrade_4k", members.get("upgrade_4k", DEARER.upgrade_4k)),
            dated=dated,
        )

    def _row(self, model: Model, value: JSON) -> Mapping[Resolution, int]:
        where = f"videos.{model}"
        usual = DEARER.videos[model]
        if value is None:
            return usual
        if not isinstance(value, dict):
            return dict.fromkeys(Resolution, self._credits(where, value))
        row = self._object(where, value, Resolution)
        return {
            resolution: self._credits(f"{where}.{resolution}", row.get(resolution, price))
            for resolution, price in usual.items()
        }

    def _object(self, where: str, value: JSON, known: Iterable[str]) -> JSONObject:
        names = [str(one) for one in known]
        if not isinstance(value, dict):
            self._refuse(where, f"it is {_said(value)}; give an object with {', '.join(names)}")
        for name in value:
            if name not in names:
                self._refuse(where, f"{_said(name)} is unknown; known are {', '.join(names)}")
        return value

    def _credits(self, where: str, value: JSON) -> int:
        if type(value) is not int or value < 0:
            self._refuse(where, f"it is {_said(value)}; give whole credits of 0 or more")
        return value

    def _refuse(self, where: str, why: str) -> NoReturn:
        raise refused(f"{self.name}, field {where}" if where else self.name, why)


def _said(value: JSON) -> str:
    return reprlib.repr(value)
