"""Charts as inline SVG: curves over steps, and values with their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spml.visualize.html import Html, key, tag

# Readable on white and on black; a second round of them is dashed.
COLOURS = ("#2f7ed8", "#e4572e", "#2aa876", "#a259c4", "#d99a00", "#d6478f", "#17a2b8", "#8a6d3b", "#7a8b99", "#6b8e23")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 56, 16, 12, 34
CURVES_HEIGHT, ROW_HEIGHT = 260, 24
TICKS = 5
LONGEST_NAME = 38  # letters beside a bar


@dataclass(frozen=True)
class Curve:
    """A named line through points (x, y), finite, x ascending."""

    name: str
    points: Sequence[tuple[float, float]]


def colour_of(place: int) -> str:
    """The colour of the line or row number `place`."""
    return COLOURS[place % len(COLOURS)]


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count`, apart by 1, 2 or 5 times a power of 10."""
    span = high - low if high > low else max(abs(high), 1.0)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def line_chart(curves: Sequence[Curve], x_title: str, y_title: str) -> Html:
    """Curves in one chart, with their names and colours below.

    Raises:
        ValueError: no point at all.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        raise ValueError("expected a point, got none")
    xs, ys = ticks(0, max(x for x, _ in points)), ticks(min(y for _, y in points), max(y for _, y in points))
    right, bottom = WIDTH - RIGHT, CURVES_HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - xs[0]) / (xs[-1] - xs[0]), (y - ys[0]) / (ys[-1] - ys[0])
        return round(LEFT + across * (right - LEFT), 1), round(bottom - up * (bottom - TOP), 1)

    parts = []
    for y in ys:
        _, height = place(xs[0], y)
        parts.append(tag("line", x1=LEFT, x2=right, y1=height, y2=height, class_="grid"))
        parts.append(tag("text", f"{y:g}", x=LEFT - 6, y=height + 4, text_anchor="end", class_="soft"))
    for x in xs:
        across, _ = place(x, ys[0])
        parts.append(tag("text", f"{x:g}", x=across, y=bottom + 16, text_anchor="middle", class_="soft"))
    parts.append(tag("text", x_title, x=right, y=CURVES_HEIGHT - 3, text_anchor="end", class_="soft"))
    for number, curve in enumerate(curves):
        dash = "5 4" if number >= len(COLOURS) else None
        line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in curve.points))
        look = {"fill": "none", "stroke": colour_of(number), "stroke_width": 1.8, "stroke_dasharray": dash}
        parts.append(tag("polyline", tag("title", curve.name), points=line, **look))
    names = [curve.name for curve in curves]
    label = f"{y_title} over {x_title}: {', '.join(names)}"
    chart = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {CURVES_HEIGHT}", role="img", aria_label=label)
    return tag(
        "div",
        tag("div", chart, class_="scroll"),
        key(names, [colour_of(i) for i in range(len(curves))], range(len(COLOURS), len(curves))),
    )


def dot_chart(rows: Sequence[tuple[str, Sequence[float]]], title: str) -> Html:
    """A bar from zero to the mean of each row's values, and a dot at each value.

    Args:
        rows: name and values >= 0, at least one.
        title: what the values are.
    """
    left = min(300, 20 + 7 * max(len(name) for name, _ in rows))
    xs = ticks(0, max((value for _, values in rows for value in values), default=1.0))
    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    right, bottom = WIDTH - 56, height - BOTTOM

    def across(value: float) -> float:
        return round(left + (right - left) * value / xs[-1], 1)

    parts = []
    for x in xs:
        parts.append(tag("line", x1=across(x), x2=across(x), y1=TOP - 4, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{x:g}", x=across(x), y=bottom + 16, text_anchor="middle", class_="soft"))
    parts.append(tag("text", title, x=WIDTH - 2, y=height - 3, text_anchor="end", class_="soft"))
    for number, (name, values) in enumerate(rows):
        top = TOP + ROW_HEIGHT * number
        mean, middle = sum(values) / len(values), top + ROW_HEIGHT / 2
        bar = {"x": left, "y": top + 4, "width": across(mean) - left, "height": ROW_HEIGHT - 8}
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        parts.append(tag("text", short, tag("title", name), x=left - 8, y=middle + 4, text_anchor="end"))
        parts.append(tag("rect", **bar, fill=colour_of(number), fill_opacity=0.45))
        for value in values:
            parts.append(tag("circle", cx=across(value), cy=middle, r=3.5, fill=colour_of(number)))
        parts.append(tag("text", f"{mean:.1f}", x=across(max(values)) + 9, y=middle + 4))
    chart = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title)
    return tag("div", chart, class_="scroll")
