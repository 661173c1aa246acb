"""What `make test` does in part, for its time, and `make soak` in full; such tests are marked ``soak``."""

import os
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

SOAK: Final = "CPNS_SOAK" in os.environ


def one_in(number: int, cases: Sequence[T]) -> Sequence[T]:
    """Return every so many-th of *cases*, always the same; all of them in `make soak`."""
    return cases if SOAK else cases[::number]
