"""Line plots as SVG, small enough to be read in a diff."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, TOP, WIDTH, HEIGHT = 60, 20, 520, 260
COLORS = ("#2a7", "#b42", "#36c", "#888")
DASHED = 'stroke-dasharray="6 4"'
_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis, from *low* to *high*, which differ; both are over 0 where it is *logarithmic*.

    Attributes:
        label: what it shows, with its unit.
        ticks: the values that are named.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where *value* is, from 0 to 1."""
        if self.logarithmic:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, its points, and a dash pattern (none: drawn through)."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    dash: str = ""


def linear(label: str, most: float) -> Axis:
    """Return an axis from 0 to *most*, which is over 0, with some five round ticks."""
    rough = most / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _STEPS if power * factor >= rough)
    return Axis(label, 0.0, most, [round(number * step, 9) for number in range(int(most / step + 1e-9) + 1)])


def logarithmic(label: str, least: float, most: float) -> Axis:
    """Return an axis over the powers of ten from *least* to *most*, both over 0."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    last = max(last, first + 1)
    return Axis(label, 10.0**first, 10.0**last, [10.0**power for power in range(first, last + 1)], logarithmic=True)


def draw(across: Axis, up: Axis, lines: Sequence[Line]) -> str:
    """Return the plot; the name of each line stands beside its last point, names at one height below each other."""

    def x(value: float) -> float:
        return round(LEFT + WIDTH * across.share(value), 1)

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (1 - up.share(value)), 1)

    def text(where: float, below: float, anchor: str, words: str, color: str = "#000") -> str:
        return f'<text x="{where}" y="{below}" text-anchor="{anchor}" fill="{color}">{words}</text>'

    def line(one: Line) -> str:
        points = " ".join(f"{x(right)},{y(value)}" for right, value in one.points)
        return f'<polyline fill="none" stroke="{one.color}" stroke-width="2" {one.dash} points="{points}"/>'

    drawn = [one for one in lines if one.points]
    beside = _apart([y(one.points[-1][1]) + 4 for one in drawn])
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 330" font-family="sans-serif" font-size="12">',
            '<rect width="680" height="330" fill="white"/>',
            f'<path d="M{LEFT},{TOP}V{TOP + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#888"/>',
            *(text(x(tick), TOP + HEIGHT + 18, "middle", f"{tick:.10g}") for tick in across.ticks),
            *(text(LEFT - 6, y(tick) + 4, "end", f"{tick:.10g}") for tick in up.ticks),
            text(LEFT + WIDTH / 2, TOP + HEIGHT + 38, "middle", across.label),
            text(LEFT - 50, TOP - 6, "start", up.label),
            *map(line, drawn),
            *(text(LEFT + WIDTH + 6, at, "start", one.name, one.color) for one, at in zip(drawn, beside, strict=True)),
            "</svg>\n",
        ]
    )


def _apart(heights: Sequence[float]) -> list[float]:
    """Return *heights* with 13 between any two, in their order from the top."""
    placed: dict[int, float] = {}
    lowest = -math.inf
    for index in sorted(range(len(heights)), key=lambda one: heights[one]):
        placed[index] = lowest = max(heights[index], lowest + 13)
    return [placed[index] for index in range(len(heights))]
