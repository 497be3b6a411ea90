"""Paths that lead out of where they seem to lead. Pure; any thread."""

from __future__ import annotations

import re

_CLIMBS = re.compile(r"(?:.*[/\\])?\.\.[/\\].*|.*[/\\]\.\.", re.DOTALL)


def climbs(path: str) -> bool:
    """Whether a path, of a file or of a URL, goes up by ``..``: as an element of its own, at the end with something before it.

    >>> climbs("/models/../etc"), climbs("/models/a..b"), climbs("..")
    (True, False, False)
    """
    return ".." in path and _CLIMBS.fullmatch(path) is not None
