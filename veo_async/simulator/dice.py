"""Chance that repeats: every draw is a hash of the simulator's seed and of what it is for."""

import hashlib


def digest(*parts: object) -> str:
    """Return 64 hex digits that depend on nothing but `parts`."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fraction(*parts: object) -> float:
    """Return a number in [0, 1), evenly spread over different `parts`."""
    return int(digest(*parts)[:13], 16) / 16**13


def between(low: float, high: float, *parts: object) -> float:
    """Return a number in [low, high)."""
    return low + (high - low) * fraction(*parts)


def integer(low: int, high: int, *parts: object) -> int:
    """Return a whole number from low to high, both included."""
    return low + int(fraction(*parts) * (high - low + 1))
