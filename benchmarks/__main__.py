"""Runs every benchmark: `python -m benchmarks`."""

from benchmarks import batch, day, download

batch.main()
day.main()
download.main()
