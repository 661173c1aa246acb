"""One process of load: ``python -m cpns.loadgen.worker gateways|pnes``.

It takes its job, a line of JSON, from standard input, and says lines of JSON; it ends when its standard input does, so
that none outlives the process that started it. The job holds credentials: they are in no argument and no file.
"""

import asyncio
import contextlib
import errno
import gc
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from cpns.errors import CpnsError, UserError
from cpns.loadgen import gateways, pnes
from cpns.loadgen.job import LONGEST_LINE, Job, say

FULL_COLLECTION_SELDOM: Final = (700, 10, 200)
"""Thresholds of the garbage collector. Thousands of parties in one process would all stand still while it looks through
all of them, which no single one ever would."""
Role = Callable[[Job, asyncio.StreamReader], Awaitable[None]]


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(LONGEST_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _run(role: Role) -> None:
    lines = await _lines()
    line = await lines.readline()
    if not line:
        return
    try:
        await role(json.loads(line), lines)
    except* CpnsError as errors:
        first = _first(errors)
        say(failed=[first.code if isinstance(first, UserError) else "failed", str(first)])
    except* OSError as errors:
        error = _first(errors)
        say(failed=["too_many_files" if error.errno == errno.EMFILE else "no_socket", f"{error.strerror or error}."])


def _first(errors: BaseExceptionGroup[Any]) -> Any:  # noqa: ANN401  # of the kind that the group holds
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def main() -> None:
    """Run the role that the first argument names."""
    import uvloop

    gc.set_threshold(*FULL_COLLECTION_SELDOM)
    logging.getLogger("cpns").setLevel(logging.ERROR)  # a PNE that tries again is counted, and no event
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        uvloop.run(_run({"gateways": gateways.role, "pnes": pnes.role}[sys.argv[1]]))


if __name__ == "__main__":
    main()
