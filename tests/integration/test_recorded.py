"""An honest run says the bytes that it said when another CoAP was below."""

import json
from pathlib import Path

from tests.support import recorded as runs

BEFORE: runs.Run = json.loads(Path(runs.__file__).with_suffix(".json").read_text())
BLOCK_WISE = "20"
"""Option 4, empty, behind option 2: block-wise transfer (RFC 8323 5.3.2), which was said and never done."""


async def test_an_honest_run_says_the_same_bytes(tmp_path: Path) -> None:
    """But for the settings of a connection, which say no more that there is block-wise transfer."""
    settings = "e1" + "23010400"  # Max-Message-Size 66,560
    before = sorted(f"40{settings}" if said == f"50{settings}{BLOCK_WISE}" else said for said in BEFORE["uplink"])
    assert before != BEFORE["uplink"]
    assert await runs.recorded(tmp_path) == {**BEFORE, "uplink": before}
