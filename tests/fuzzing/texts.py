"""Texts, names, numbers and JSON that nobody expects."""

import copy
import json
from typing import Any

from numpy.random import Generator

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 65_536, 2**31, -(2**31), 2**63, -(2**63) - 1, 10**30, 10**400),
    *(0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
)
TEXTS = (
    *("", " ", "a", "none", "null", "nan", "inf", "-1", "1e999", "0x10", "1/0", "1e400", "true"),
    *("a\nb", "\x00", "\x1b[2J", "\u202e", "\ufeff", "\ud800", "日本", "é" * 300, "a" * 5000),
    *("%s%n", "{}", "${x}", "$x_{", "../../x", "/", "~", "~root/x", "a,b", "a=b", "a:b", "[1,2]"),
    *("(1, 1)", "()", "1,", ",", "jpeg:85", "jpeg:x", "resize:0", "blur:1e9", "crop:-1", "+", "=1"),
)
SCALARS = (None, True, False, *NUMBERS, *TEXTS, [], {}, [[]], [None], {"": None}, [1] * 20)
_PARTS = (b"a", b"photo", b"IMG_1234", b".jpg", b".png", b".JPG", b".", b"..", b"-", b" ", b"#2")
_PARTS += (b"\n", b"\r", b"\t", b"\x1b[2J", b"\xff", b"\xc3", b"\xed\xa0\x80", "é".encode())
_PARTS += ("日本".encode(), "\u202e".encode(), "\u2028".encode(), b"'", b'"', b"<b>", b"&amp;")
_PARTS += (b"=1+1", b"@", b"%00", b"*", b"?", b"[a]", b"~", b"$HOME", b"`x`", b";", b"\\", b":")
_PARTS += (b",", b".txt", b".zip", b".tar", b"._a", b"__MACOSX", b"x" * 200, b"2023-01-02 10.11.12")


def name(rng: Generator, suffix: bytes = b"") -> bytes:
    """A name that a disk takes: anything without NUL and slash."""
    parts = [_PARTS[int(i)] for i in rng.integers(len(_PARTS), size=int(rng.integers(1, 5)))]
    if rng.integers(3) == 0:
        parts.append(bytes(b or 1 for b in rng.bytes(int(rng.integers(1, 12)))))
    made = b"".join(parts).replace(b"/", b"_").replace(b"\0", b"_")[: 255 - len(suffix)] + suffix
    return b"_" if made in (b".", b"..", b"") else made


def text(rng: Generator) -> str:
    """A text, mostly odd."""
    if rng.integers(4) == 0:
        return rng.bytes(int(rng.integers(40))).decode("latin-1")
    return TEXTS[int(rng.integers(len(TEXTS)))]


def scalar(rng: Generator) -> Any:
    """Any value that JSON can hold."""
    return copy.deepcopy(SCALARS[int(rng.integers(len(SCALARS)))])


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        inner = [place for key in value for place in _places(value[key], (*path, key))]
    elif isinstance(value, list):
        inner = [place for i, x in enumerate(value) for place in _places(x, (*path, i))]
    else:
        inner = []
    return [path, *inner]


def changed(rng: Generator, value: Any, changes: int = 0) -> Any:
    """JSON with one to four values replaced, left out, renamed, doubled or wrapped."""
    holder = {"": copy.deepcopy(value)}
    for _ in range(changes or int(rng.choice([1, 1, 1, 2, 4]))):
        places = _places(holder)[1:]
        *path, last = places[int(rng.integers(len(places)))]
        parent: Any = holder
        for key in path:
            parent = parent[key]
        old = parent[last]
        match rng.integers(8):
            case 0 if path:
                del parent[last]
            case 1 if isinstance(parent, dict) and path:
                parent[text(rng)] = parent.pop(last)
            case 2 if isinstance(old, dict):
                old[text(rng)] = scalar(rng)
            case 2 if isinstance(old, list):
                old.append(copy.deepcopy(old[0]) if old and rng.integers(2) else scalar(rng))
            case 3:
                parent[last] = [old] if rng.integers(2) else {"a": old}
            case 4 if isinstance(old, int | float) and not isinstance(old, bool):
                parent[last] = NUMBERS[int(rng.integers(len(NUMBERS)))]
            case _:
                parent[last] = scalar(rng)
    return holder.get("")


def dumped(value: Any) -> bytes:
    """JSON as bytes; halves of characters stay escapes."""
    return json.dumps(value).encode()


def damaged(rng: Generator, data: bytes) -> bytes:
    """Bytes changed anywhere, or cut."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        at = int(rng.integers(len(out) + 1))
        match rng.integers(5):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                out[at : at + int(rng.choice([1, 4, 64]))] = b""
            case 2:
                out[at:at] = rng.bytes(int(rng.choice([1, 4, 64])))
            case 3 if rng.integers(4) == 0:
                del out[at:]
            case _:
                size = int(rng.choice([1, 2, 4, 8]))
                out[at : at + size] = (b"\0", b"\xff", b"\x7f", b"0", b"9")[rng.integers(5)] * size
    return bytes(out)
