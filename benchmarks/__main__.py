"""Runs every benchmark: `python -m benchmarks`."""

from benchmarks import download

download.main()
