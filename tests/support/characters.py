"""Characters that end lines somewhere, steer a terminal, turn text around, or can't be seen."""

import sys
import unicodedata
from typing import Final

SPECIAL: Final = [chr(n) for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)) in ("Cc", "Cf", "Zl", "Zp")]
"""All controls, formats (those of direction and of no width among them), and separators of lines and paragraphs."""


def around(char: str) -> str:
    """Return a text with *char* in its middle."""
    return f"a{char}b"
