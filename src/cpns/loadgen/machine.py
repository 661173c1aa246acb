"""The machine that figures come from."""

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """Return what a reader needs to place the figures."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].split(":", 1)[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
