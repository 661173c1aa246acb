"""Plots for the documents, as SVG: lines over a logarithmic axis, and bars."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 680
COLORS = ("#2a7", "#b42", "#26a", "#a61")


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one color, and what they are; *dash* as SVG has it, empty for none."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    dash: str = ""


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


def lines(drawn: Sequence[Line], x_name: str, y_name: str, *, logarithmic: bool) -> str:
    """Return a plot with a logarithmic x axis, and a y axis from 0, or from 1 where it is *logarithmic* too."""
    left, top, width, height = 60, 26, 500, 260
    xs = sorted({x for line in drawn for x, _ in line.points})
    most = max(y for line in drawn for _, y in line.points)
    step = _step(most)
    powers = range(int(math.log10(max(most, 10))) + 1)
    marks = [10.0**power for power in powers] if logarithmic else [step * n for n in range(int(most / step) + 2)]

    def x_at(x: float) -> float:
        return round(left + width * math.log(x / xs[0]) / math.log(xs[-1] / xs[0]), 1)

    def y_at(y: float) -> float:
        share = math.log10(y) / math.log10(max(most, 10)) if logarithmic else y / marks[-1]
        return round(top + height * (1 - share), 1)

    parts = [f'<path d="M{left},{top}V{top + height}H{left + width}" fill="none" stroke="#888"/>']
    parts += [_text(x_at(x), top + height + 18, "middle", f"{x:.0f}") for x in xs]
    parts += [_text(left - 6, y_at(mark) + 4, "end", f"{mark:.0f}") for mark in marks]
    parts += [_text(left + width / 2, top + height + 38, "middle", x_name), _text(10, top - 12, "start", y_name)]
    for line in drawn:
        points = " ".join(f"{x_at(x)},{y_at(y)}" for x, y in line.points)
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(f'<polyline fill="none" stroke="{line.color}" stroke-width="2"{dash} points="{points}"/>')
        parts.append(_text(left + width + 6, y_at(line.points[-1][1]) + 4, "start", line.name, line.color))
    return _svg(336, parts)


def bars(drawn: Sequence[Bar], x_name: str) -> str:
    """Return horizontal bars from 0, one below the other, each with its range."""
    left, top, width, each = 260, 10, 360, 24
    most = max(bar.high for bar in drawn)
    step = _step(most)
    bottom = top + each * len(drawn)

    def x_at(value: float) -> float:
        return round(left + width * value / most, 1)

    parts = [f'<path d="M{left},{top}V{bottom}H{left + width}" fill="none" stroke="#888"/>']
    parts += [_text(x_at(step * n), bottom + 16, "middle", f"{step * n:.0f}") for n in range(int(most / step) + 1)]
    parts.append(_text(left + width / 2, bottom + 34, "middle", x_name))
    for number, bar in enumerate(drawn):
        y = top + each * number
        length = round(x_at(bar.value) - left, 1)
        parts.append(_text(left - 8, y + 16, "end", bar.name))
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{length}" height="{each - 8}" fill="{bar.color}"/>')
        parts.append(f'<path d="M{x_at(bar.low)},{y + each / 2}H{x_at(bar.high)}" stroke="#000"/>')
        parts.append(_text(x_at(bar.high) + 6, y + 16, "start", f"{bar.value:.0f}"))
    return _svg(bottom + 44, parts)


def _step(most: float) -> float:
    """Return a round distance between marks, so that there are four to ten of them."""
    power: float = 10.0 ** math.floor(math.log10(most))
    return next(part * power for part in (0.1, 0.2, 0.5, 1.0) if most / (part * power) <= 10)
