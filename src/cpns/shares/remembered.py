"""What is remembered of messages that came, with a bound that no group takes from the others."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Remembered(dict[Hashable, object]):
    """Keys and values; full, the oldest of a group that has more than its share is forgotten.

    Args:
        total: keys in all; each group's share is that by the number of groups.
        group: whose a key is, such as a host.
    """

    def __init__(self, total: int, group: Callable[[Any], Hashable]) -> None:
        super().__init__()
        self._total = total
        self._group = group
        self._groups: OrderedDict[Hashable, dict[Hashable, None]] = OrderedDict()

    def __setitem__(self, key: Hashable, value: object) -> None:
        if key not in self:
            self._groups.setdefault(self._group(key), {})[key] = None
        super().__setitem__(key, value)
        if len(self) > self._total:
            self.pop(self._oldest_of_a_greedy_one())

    def pop(self, key: Hashable, default: object = None) -> object:
        """Forget *key*, which may be forgotten already."""
        if key in self:
            group = self._group(key)
            keys = self._groups[group]
            del keys[key]
            if not keys:
                del self._groups[group]
        return super().pop(key, default)

    def _oldest_of_a_greedy_one(self) -> Hashable:
        while True:  # as there is more than all shares together, one has more than its own
            group, keys = next(iter(self._groups.items()))
            if len(keys) * len(self._groups) > self._total:
                return next(iter(keys))
            self._groups.move_to_end(group)
