"""The page of results, README.md, made of what the benchmarks have kept. It needs matplotlib."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.results import Bound, Plot

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
PLOTS = HERE / "plots"

ORDER = (
    "download",
    "crowd",
    "slow",
    "poll",
    "pollers",
    "polling",
    "bulk",
    "imports",
    "batch",
    "growth",
    "day",
    "kills",
    "lifetimes",
    "limits",
    "web",
    "webhooks",
    "upload",
    "jobs",
)

INTRODUCTION = """# Results

<!-- Written by `python -m benchmarks`; what is edited here is lost. -->

One module for each figure. From a checkout:

```sh
python3 -m venv .venv && .venv/bin/pip install --quiet '.[bench]' && .venv/bin/python -m benchmarks
```

runs all of them, one after the other, and writes this page; `python -m benchmarks download polling`
runs these two, and `python -m benchmarks.download` runs one and only prints. Peers are installed
into an environment of their own, in `.benchmarks/`. The service runs in a process of its own, so
that its CPU is not counted, over loopback. Ways that are compared take turns in one run; figures
are medians, with the least and the most in brackets. A shared virtual machine is never quiet:
compare figures of one table, not of two.

Nothing is left out for a figure: length, MP4 boxes, SHA-256, fsync, the rename and the journal are
on unless a row says otherwise.
"""


def write() -> None:
    """Write the page and its plots."""
    kept = {name: found for name in ORDER if (found := results.load(name)) is not None}
    parts = [INTRODUCTION.rstrip()]
    bounds = [bound for found, _ in kept.values() for bound in found.bounds]
    if bounds:
        parts += ["## What is promised", results.promised(bounds).markdown()]
    for name, (found, machine) in kept.items():
        module = f"`python -m benchmarks.{name}`, {machine}."
        parts += [*found.parts(), *_drawn(name, found.plots), module]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def broken() -> list[Bound]:
    """Return the bounds that do not hold."""
    found = [one for name in ORDER if (one := results.load(name)) is not None]
    return [bound for one, _ in found for bound in one.bounds if not bound.holds]


def _drawn(name: str, plots: Sequence[Plot]) -> list[str]:
    PLOTS.mkdir(exist_ok=True)
    links: list[str] = []
    for number, plot in enumerate(plots, start=1):
        file = PLOTS / f"{name}-{number}.svg"
        file.write_text(_svg(plot), encoding="utf-8")
        links.append(f"![{plot.title}]({file.relative_to(HERE).as_posix()})")
    return links


def _svg(plot: Plot) -> str:
    # The same figures give the same file: no date, no random ids.
    with mpl.rc_context({"svg.hashsalt": "veo-async", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, points in plot.lines.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        if plot.has_log_x:
            axes.set_xscale("log")
        if plot.has_log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        if len(plot.lines) > 1:
            axes.legend()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
