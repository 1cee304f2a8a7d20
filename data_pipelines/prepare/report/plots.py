"""Plots of the report page, as plain HTML and SVG: bars, histograms, a map of makes and models."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from data_pipelines.prepare.report.html import Html, amount, el, join, number, percent, table

_WIDTH: Final = 360
_LEFT, _RIGHT, _TOP, _BASE = 46, 14, 8, 132  # of the area of bars
_TICK_TEXT, _STRIP, _HEIGHT = 150, 170, 186
_CHARACTER: Final = 7.2
"""Pixels of a character of a tick's label, at most."""
_STOPS: Final = (1, 1.4, 2, 2.8, 4, 5.6, 8, 11, 16, 22, 32, 45, 64, 90, 128)
_SHUTTER: Final = (8000, 4000, 2000, 1000, 500, 250, 125, 60, 30, 15, 8, 4, 2)
_SECONDS: Final = (1, 2, 4, 8, 15, 30, 60, 120, 240, 480, 900, 1800, 3600)


def plain(value: float) -> str:
    """Three significant digits, or all digits of a whole number's thousands."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{plain(value)} s" if value >= 0.3 else f"1/{1 / value:.0f} s"


_FORMATS: Final[dict[str, Callable[[float], str]]] = {
    "FNumber": lambda value: f"f/{plain(value)}",
    "ExposureTime": _seconds,
    "ISO": lambda value: plain(value) if value < 100 else f"{value:,.0f}",
}


def format_value(name: str, value: float, unit: str) -> str:
    """Returns a value of a ranked tag as photographers write it, such as f/2.8 or 1/60 s."""
    value = value + 0.0 if abs(value) > 1e-9 else 0.0
    return _FORMATS[name](value) if name in _FORMATS else f"{plain(value)} {unit}".strip()


def bar(part: float, whole: float, css: str = "") -> Html:
    """Returns a bar whose filled part is part / whole; what it shows must stand beside it."""
    width = 100 * part / whole if whole else 0.0
    # Something is never drawn as nothing.
    style = f"width:{width:.2f}%" + (";min-width:2px" if part else "")
    return el(
        "div", el("div", el("div", style=style), class_=css), class_="track", aria_hidden="true"
    )


def bar_list(
    rows: Sequence[tuple[object, int, str]], whole: int, label: str, css: str = "bars"
) -> Html:
    """Returns labelled bars with their numbers and shares of a whole.

    Args:
      rows: (label, photos, CSS class) each.
      whole: What a full bar is.
      label: Read to those who do not see the list.
      css: Class of the list.
    """
    items = (
        el(
            "li",
            el("span", name),
            bar(part, whole, bar_css),
            el("span", number(part), class_="n"),
            el("span", percent(part, whole), class_="n"),
        )
        for name, part, bar_css in rows
    )
    return el("ul", *items, class_=css, aria_label=label, role="list")


def stack(parts: Sequence[tuple[str, int, str]]) -> Html:
    """Returns one bar made of several, and its key: (label, number, CSS class) each."""
    shown = [part for part in parts if part[1]]
    total = sum(part[1] for part in shown)
    spans = (el("span", class_=css, style=f"flex:{n} 1 0") for _, n, css in shown)
    key = (
        el("span", el("i", class_=css), f"{label}: {number(n)} ({percent(n, total)})")
        for label, n, css in parts
    )
    return join(
        el("div", *spans, class_="stack", aria_hidden="true"), el("div", *key, class_="key")
    )


def histogram(name: str, tag: Mapping[str, Any]) -> Html:
    """Returns the histogram of a ranked tag, with a box plot below its axis."""
    edges, counts = tag["histogram"]["edges"], tag["histogram"]["counts"]
    scale = math.log if tag["histogram"]["scale"] == "log" else float
    low, high = scale(edges[0]), scale(edges[-1])
    highest = max(counts)

    def x(value: float) -> float:
        return _LEFT + (scale(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _BASE - value / highest * (_BASE - _TOP)

    def show(value: float) -> str:
        return format_value(name, value, tag["unit"])

    # A single value is a bar like others, not a wall.
    width = min((_WIDTH - _LEFT - _RIGHT) / len(counts) - 1, 40)
    bars = (
        el(
            "rect",
            class_="hist",
            x=f"{(x(left) + x(right) - width) / 2:.1f}",
            y=f"{min(y(n), _BASE - 1.5):.1f}",
            width=f"{width:.1f}",
            height=f"{max(_BASE - y(n), 1.5):.1f}",
        )
        for (left, right), n in zip(itertools.pairwise(edges), counts, strict=True)
        if n
    )
    grid = (
        join(
            _line(_LEFT, y(n), _WIDTH - _RIGHT, y(n)),
            el("text", plain(n), x=_LEFT - 6, y=f"{y(n) + 4:.1f}", text_anchor="end"),
        )
        for n in _round_numbers(0, highest, 4, whole=True)
        if n <= highest
    )
    ticks = (
        join(
            _line(x(value), _BASE, x(value), _BASE + 5, "axis"),
            el("text", label, x=f"{x(value):.1f}", y=_TICK_TEXT, text_anchor=anchor),
        )
        for value, label, anchor in _label_ticks(_ticks(name, edges, scale is math.log), show, x)
    )
    label = (
        f"Histogram of {name}: {amount(tag['num'], 'photo')} from {show(tag['min'])} to "
        f"{show(tag['max'])}, median {show(tag['quantiles']['0.5'])}"
    )
    return el(
        "svg",
        *grid,
        *bars,
        _line(_LEFT, _BASE, _WIDTH - _RIGHT, _BASE, "axis"),
        *ticks,
        _box_plot(tag["quantiles"], x),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def histogram_table(name: str, tag: Mapping[str, Any]) -> Html:
    """Returns the numbers of a histogram."""
    edges, counts = tag["histogram"]["edges"], tag["histogram"]["counts"]
    rows: list[tuple[object, ...]] = [
        (
            f"{format_value(name, left, tag['unit'])} to {format_value(name, right, tag['unit'])}",
            number(n),
            percent(n, tag["num"]),
        )
        for (left, right), n in zip(itertools.pairwise(edges), counts, strict=True)
    ]
    return table(("from, to", "photos", "share"), rows, f"Histogram of {name}")


def _line(x1: float, y1: float, x2: float, y2: float, css: str | None = None) -> Html:
    points = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return el("line", class_=css, **{key: f"{value:.1f}" for key, value in points.items()})


def _box_plot(quantiles: Mapping[str, float], x: Callable[[float], float]) -> Html:
    left, low, middle, high, right = (
        x(quantiles[q]) for q in ("0.05", "0.25", "0.5", "0.75", "0.95")
    )
    return join(
        _line(left, _STRIP, right, _STRIP, "whisker"),
        el(
            "rect",
            class_="box",
            x=f"{low:.1f}",
            y=_STRIP - 6,
            width=f"{max(high - low, 1):.1f}",
            height=12,
        ),
        _line(middle, _STRIP - 8, middle, _STRIP + 8, "median"),
    )


def _ticks(name: str, edges: Sequence[float], log: bool) -> list[float]:
    """Returns round values within the axis."""
    low, high = edges[0], edges[-1]
    if len(edges) == 2:  # one value, in the middle
        return [math.sqrt(low * high) if log else (low + high) / 2]
    candidates = _round_multiples(name, low, high) if log else []
    # Rounding must not lose the ticks at the ends.
    slack = 1e-9 * (high - low)
    inside = [value for value in candidates if low - slack <= value <= high + slack]
    return inside if len(inside) > 1 else _round_numbers(low, high, 5)


def _round_multiples(name: str, low: float, high: float) -> list[float]:
    """Returns the values that photographers count in, or 1, 2, 5, 10 and so on."""
    if name == "FNumber":
        return list(_STOPS)
    if name == "ExposureTime":
        return [*(1 / value for value in _SHUTTER), *_SECONDS]
    if name == "ISO":
        return [25.0 * 2**k for k in range(-5, 20)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**k for k in decades for step in (1, 2, 5)]


def _round_numbers(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Returns up to about `most` multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    step = max(step, 1) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _label_ticks(
    values: Sequence[float], show: Callable[[float], str], x: Callable[[float], float]
) -> list[tuple[float, str, str]]:
    """Returns (value, label, anchor) of every k-th value, so that no labels touch."""
    for step in range(1, len(values) + 1):
        placed = [_place(show(value), x(value)) for value in values[::step]]
        if all(left[1] + 6 <= right[0] for left, right in itertools.pairwise(placed)):
            return [
                (value, show(value), anchor)
                for value, (_, _, anchor) in zip(values[::step], placed, strict=True)
            ]
    return []


def _place(label: str, x: float) -> tuple[float, float, str]:
    """Returns the left and right end of a label and its anchor, within the picture."""
    width = _CHARACTER * len(label)
    if x + width / 2 > _WIDTH:
        return x - width + 4, x + 4, "end"
    return x - width / 2, x + width / 2, "middle"


def makes_map(makes_models: Mapping[str, Mapping[str, int]]) -> Html:
    """Returns a map whose areas are photos: a block for each make, a cell for each model.

    It is there twice, for wide screens and for phones; the style sheet shows one.
    """
    blocks = sorted(makes_models.items(), key=lambda item: -sum(item[1].values()))
    return join(_map(blocks, 1080, 490, "map landscape"), _map(blocks, 360, 620, "map tall"))


_Blocks = Sequence[tuple[str, Mapping[str, int]]]
_Area = tuple[float, float, float, float]
"""Left, top, width, height, as fractions."""


def _map(blocks: _Blocks, width: int, height: int, css: str) -> Html:
    """Returns a map that is drawn for so many pixels, and fits itself to others."""
    areas = _squarify([sum(models.values()) for _, models in blocks], width / height)
    return el(
        "div",
        *(
            _block(make, models, area, area[2] * width, area[3] * height)
            for (make, models), area in zip(blocks, areas, strict=True)
        ),
        class_=css,
        style=f"aspect-ratio:{width}/{height}",
        aria_hidden="true",
    )


def _block(make: str, models: Mapping[str, int], area: _Area, width: float, height: float) -> Html:
    named = width > 54 and height > 48
    inner_aspect = width / (height - 20 if named else height)
    rows = sorted(models.items(), key=lambda item: -item[1])
    cells = (
        el(
            "div",
            el("span", f"{model.removeprefix(f'{make} ')} {number(n)}"),
            class_="cell",
            style=_position(cell),
            title=f"{make}, {model}: {amount(n, 'photo')}",
        )
        for (model, n), cell in zip(
            rows, _squarify([n for _, n in rows], inner_aspect), strict=True
        )
    )
    heading = el("b", f"{make} {number(sum(models.values()))}") if named else None
    inner = el("div", *cells, class_="cells", style="top:20px" if named else None)
    return el("div", heading, inner, style=_position(area))


def _position(area: _Area) -> str:
    names = ("left", "top", "width", "height")
    return ";".join(f"{name}:{100 * v:.3f}%" for name, v in zip(names, area, strict=True))


def _squarify(sizes: Sequence[int], aspect: float) -> list[_Area]:
    """Divides a rectangle into areas in proportion to sizes, near to squares.

    After Bruls, Huizing and van Wijk, "Squarified treemaps" (2000): rows are filled along the
    shorter side of what is left, each as long as its worst area gets no longer and thinner.

    Args:
      sizes: Largest first, all above 0.
      aspect: Width over height of the rectangle.
    """
    total, areas = sum(sizes), []
    left, top, width, height = 0.0, 0.0, aspect, 1.0
    rest = [size * aspect / total for size in sizes]
    while rest:
        side = min(width, height)
        n = 1
        while n < len(rest) and _worst(rest[: n + 1], side) <= _worst(rest[:n], side):
            n += 1
        row, rest = rest[:n], rest[n:]
        thickness = sum(row) / side
        start = 0.0
        for size in row:
            length = size / thickness
            if width >= height:
                areas.append((left / aspect, top + start, thickness / aspect, length))
            else:
                areas.append(((left + start) / aspect, top, length / aspect, thickness))
            start += length
        if width >= height:
            left, width = left + thickness, max(width - thickness, 1e-9)
        else:
            top, height = top + thickness, max(height - thickness, 1e-9)
    return areas


def _worst(row: Sequence[float], side: float) -> float:
    """Ratio of the longer to the shorter side of the row's worst area."""
    square = (sum(row) / side) ** 2
    return max(max(square / size, size / square) for size in row)
