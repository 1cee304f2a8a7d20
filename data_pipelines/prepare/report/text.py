"""How the tag report writes numbers and values of tags, in the text and on the page."""

from collections.abc import Callable
from typing import Final

_MOST: Final = 300


def shortened(text: str) -> str:
    """Returns a text without its middle if it is too long for a line or two."""
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"


def number(value: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,}"


def amount(value: int, word: str) -> str:
    """2, "photo" -> "2 photos"; 1, "photo" -> "1 photo"."""
    return f"{value:,} {word if value == 1 else f'{word}s'}"


def percent(part: float, whole: float) -> str:
    """Returns a percentage that is 0% or 100% only if it is exactly that."""
    if not whole:
        return "-"
    fraction = part / whole
    if 0 < fraction < 0.001:
        return "<0.1%"
    if 0.999 < fraction < 1:
        return ">99.9%"
    return f"{fraction:.0%}" if fraction in (0, 1) else f"{fraction:.1%}"


def plain(value: float) -> str:
    """Three significant digits, or all digits of a whole number's thousands."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{plain(value)} s" if value >= 0.3 else f"1/{1 / value:.0f} s"


_FORMATS: Final[dict[str, Callable[[float], str]]] = {
    "f-number": lambda value: f"f/{plain(value)}",
    "s": _seconds,
    "ISO": lambda value: plain(value) if value < 100 else f"{value:,.0f}",
}


def format_value(value: float, unit: str) -> str:
    """Returns a value of a ranked tag as photographers write it, such as f/2.8 or 1/60 s."""
    value = value + 0.0 if abs(value) > 1e-9 else 0.0
    return _FORMATS[unit](value) if unit in _FORMATS else f"{plain(value)} {unit}".strip()
