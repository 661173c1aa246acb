"""Bars as SVG; lines are drawn by `cpns.loadgen.plot`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpns.loadgen.plot import linear

WIDTH = 680


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with the least and the most that was measured."""

    name: str
    value: float
    low: float
    high: float
    color: str


def _text(x: float, y: float, anchor: str, words: object, color: str = "#000") -> str:
    return f'<text x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}" fill="{color}">{words}</text>'


def _svg(height: int, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>\n"])


def bars(drawn: Sequence[Bar], x_name: str) -> str:
    """Return horizontal bars from 0, one below the other, each with its range."""
    left, top, width, each = 260, 10, 360, 24
    most = max(bar.high for bar in drawn)
    ticks = [tick for tick in linear(x_name, most).ticks if tick <= most]
    bottom = top + each * len(drawn)

    def x_at(value: float) -> float:
        return round(left + width * value / most, 1)

    parts = [f'<path d="M{left},{top}V{bottom}H{left + width}" fill="none" stroke="#888"/>']
    parts += [_text(x_at(tick), bottom + 16, "middle", f"{tick:.10g}") for tick in ticks]
    parts.append(_text(left + width / 2, bottom + 34, "middle", x_name))
    for number, bar in enumerate(drawn):
        y = top + each * number
        length = round(x_at(bar.value) - left, 1)
        parts.append(_text(left - 8, y + 16, "end", bar.name))
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{length}" height="{each - 8}" fill="{bar.color}"/>')
        parts.append(f'<path d="M{x_at(bar.low)},{y + each / 2}H{x_at(bar.high)}" stroke="#000"/>')
        parts.append(_text(x_at(bar.high) + 6, y + 16, "start", f"{bar.value:.0f}"))
    return _svg(bottom + 44, parts)
