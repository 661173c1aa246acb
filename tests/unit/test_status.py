"""What ``cpns server status`` prints."""

import pytest

from cpns.cli.status import _amount


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *((0, "0.0 kB"), (512, "0.5 kB"), (48_000_000, "48 MB"), (999_600_000, "1000 MB"), (1_230_000_000, "1.2 GB")),
        *((999_600_000_000, "1000 GB"), (2_000_000_000_000, "2.0 TB")),
    ],
)
def test_a_small_disk_has_room_too(size: int, shown: str) -> None:
    assert _amount(size) == shown
