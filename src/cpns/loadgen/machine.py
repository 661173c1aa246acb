"""The machine that figures come from, and when."""

import datetime
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, object]:
    """Return what a reader needs to place the figures."""
    model = [line for line in Path("/proc/cpuinfo").read_text().split("\n") if line.startswith("model name")]
    return {
        "cpu": model[0].split(":", 1)[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def here_and_now() -> dict[str, object]:
    """Return ``date`` (UTC) and ``machine`` of figures that are being taken."""
    date = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).isoformat(timespec="seconds")
    return {"date": date, "machine": machine()}


def placed(run: Mapping[str, Any]) -> str:
    """Return what `here_and_now` put into *run*, for people."""
    details = run["machine"]
    return (
        f"{run['date'][:10]}, {details['cores']} cores of {details['cpu']}, Linux {details['kernel']}, "
        f"Python {details['python']}"
    )
