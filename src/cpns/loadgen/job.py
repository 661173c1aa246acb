"""What each process of load has, whatever its role: its job, its words to who started it, and its rest."""

import gc
import json
from typing import Any, Final

Job = dict[str, Any]
LONGEST_LINE: Final = 2**27


def say(**fields: object) -> None:
    """Say a line to the process that started us."""
    print(json.dumps(fields), flush=True)  # noqa: T201  # how processes of load talk


def at_rest() -> None:
    """Let the garbage collector look no more at what there is now, such as parties that are established."""
    gc.collect()
    gc.freeze()
