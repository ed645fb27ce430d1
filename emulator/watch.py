"""Finds the properties that a resource's handler never looks at.

An emulator that ignores a property says nothing about it. The handlers are
therefore given mappings that note which keys were read; what stays unread is
reported at /_berth/ignored. Only the first level is watched: below it a
handler mostly stores what it was given, which the tests compare instead.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from catalog import IGNORED

logger = logging.getLogger("berth.emulator")
ignored: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))


class Watched(dict):
    """A mapping that remembers the keys asked for; a walk over it reads them all."""

    def __init__(self, props: dict[str, Any]) -> None:
        super().__init__(props)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()


def watch_create(rtype: str, create: Callable[..., Any]) -> Callable[..., Any]:
    def watched(logical_id: str, props: dict[str, Any], stack: str) -> Any:
        seen = Watched(props)
        result = create(logical_id, seen, stack)
        _report(rtype, "create", set(props) - seen.read)
        return result

    return watched


def watch_update(rtype: str, update: Callable[..., Any]) -> Callable[..., Any]:
    def watched(physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: str) -> Any:
        seen = Watched(new)
        result = update(physical_id, old, seen, *rest)
        _report(rtype, "update", {key for key in new if old.get(key) != new[key]} - seen.read)
        return result

    return watched


def _report(rtype: str, operation: str, unread: set[str]) -> None:
    if unread:
        ignored[rtype][operation] |= unread
        for name in sorted(unread - IGNORED.get(rtype, {}).get(operation, set())):
            logger.warning("%s: the emulator ignores %s on %s", rtype, name, operation)
