"""What a benchmark found: tables, plots and bounds. Printed, or kept for the page of results.

Every benchmark is a module with a function that measures and returns `Results`, and ends with
`results.run(measure)`. `--save` keeps what was found in `results/NAME.json`, and writes the page
anew.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs

FOLDER = Path(__file__).parent / "results"


@attrs.frozen
class Table:
    """Rows of text under a head.

    Attributes:
        head: What the columns are.
        rows: The cells, each row as long as the head.
        caption: One line above it, if it needs one.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def markdown(self) -> str:
        """Return it as Markdown, aligned for whoever reads the source."""
        cells = [list(self.head), *map(list, self.rows)]
        widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(self.head))]
        lines = [
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(([f"{self.caption}\n"] if self.caption else []) + lines)


@attrs.frozen
class Plot:
    """Lines of points.

    Attributes:
        title: What it shows.
        x: What the horizontal axis is, with its unit.
        y: What the vertical axis is, with its unit.
        lines: For each name, its points.
        has_log_x: Whether the horizontal axis is logarithmic.
        has_log_y: Whether the vertical axis is.
    """

    title: str
    x: str
    y: str
    lines: dict[str, Sequence[tuple[float, float]]]
    has_log_x: bool = True
    has_log_y: bool = False


@attrs.frozen
class Bound:
    """A figure, and the most that it may be.

    Attributes:
        figure: What was measured, with its unit.
        value: The figure.
        at_most: Its bound.
    """

    figure: str
    value: float
    at_most: float

    @property
    def holds(self) -> bool:
        """Whether the figure is within its bound."""
        return self.value <= self.at_most


@attrs.frozen
class Results:
    """What one benchmark found.

    Attributes:
        title: Its heading.
        text: What was done, in a paragraph.
        tables: Its tables.
        bounds: What it promises.
        plots: How its figures grow.
    """

    title: str
    text: str
    tables: Sequence[Table] = ()
    bounds: Sequence[Bound] = ()
    plots: Sequence[Plot] = ()

    def parts(self) -> list[str]:
        """Return the heading, the text and the tables."""
        return [f"## {self.title}", self.text, *(table.markdown() for table in self.tables)]

    def markdown(self) -> str:
        """Return all that can be read in a terminal."""
        kept = [promised(self.bounds).markdown()] if self.bounds else []
        return "\n\n".join(self.parts() + kept)


def promised(bounds: Sequence[Bound]) -> Table:
    """Return a table of bounds."""
    rows = [
        (one.figure, f"{one.value:.4g}", f"{one.at_most:g}", "yes" if one.holds else "**no**")
        for one in bounds
    ]
    return Table(("figure", "measured", "at most", "holds"), rows)


def machine() -> str:
    """Return what the figures were measured on."""
    packages = "aiohttp", "anyio", "attrs", "aiofiles"
    named = ", ".join(f"{name} {version(name)}" for name in packages)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()}, {python}, {named}"


def save(name: str, found: Results) -> None:
    """Keep what a benchmark found."""
    FOLDER.mkdir(exist_ok=True)
    kept = {"machine": machine(), **attrs.asdict(found)}
    FOLDER.joinpath(f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def load(name: str) -> tuple[Results, str] | None:
    """Return what a benchmark found when it was last kept, and on which machine."""
    try:
        kept = json.loads(FOLDER.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found = Results(
        title=kept["title"],
        text=kept["text"],
        tables=[Table(**table) for table in kept["tables"]],
        bounds=[Bound(**bound) for bound in kept["bounds"]],
        plots=[Plot(**plot) for plot in kept["plots"]],
    )
    return found, kept["machine"]


def run(measure: Callable[[], Results], arguments: Sequence[str] | None = None) -> None:
    """Measure, print what was found, and keep it if asked."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures, and write the page of results anew"
    )
    given = parser.parse_args(arguments)
    found = measure()
    print(found.markdown())
    if given.save:
        save(Path(sys.modules["__main__"].__file__ or "").stem, found)
        from benchmarks import page  # noqa: PLC0415  # it needs matplotlib, which measuring must not

        page.write()
