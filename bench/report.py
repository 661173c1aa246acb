"""Numbers into docs/performance.md: each block between ``<!-- NAME -->`` and ``<!-- end -->`` is written by a run."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(page: Path, name: str, text: str) -> None:
    """Replace the block *name* of *page* by *text*.

    Raises:
        ValueError: the page has no such block.
    """
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    content, count = pattern.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text())
    if count != 1:
        raise ValueError(f"{page} has {count} blocks {name!r}")
    page.write_text(content)
