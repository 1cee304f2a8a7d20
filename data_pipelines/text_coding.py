"""The coding of short texts in EXIF, which should be ASCII: decoded where it is certain.

Programs write UTF-8, UTF-16 and the coding of their country into fields for ASCII, and nothing in
the field says which. A name read by the wrong one is another name, which is worse than none.
"""

import itertools
import re
from typing import Final

_MARKS: Final = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# Letters that stand at the same place in the codings of western, central European and Turkish text.
_SHARED: Final = frozenset("ÄÖÜäöüßÉéÇçÁáÍíÓóÚúÂâÎîÔôËë")
_CONTROL: Final = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ufffd]")


def decode_text(data: bytes) -> str | None:
    """Decodes a text up to its first NUL; None where its coding is not certain.

    It is certain where a mark stands before, where it is valid UTF-8 (ASCII is), where every second
    byte is zero as in UTF-16 of western text, and where single letters between ASCII are the same
    in all codings of Latin-1's kind. Text with control characters in it is none.
    """
    text = _decoded(data)
    if text is None or _CONTROL.search(text.rstrip("".join(map(chr, range(32))))):
        return None
    return text


def _decoded(data: bytes) -> str | None:
    for mark, coding in _MARKS.items():
        if data.startswith(mark):
            return _strictly(data.removeprefix(mark), coding)
    for coding, zeros, letters in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        end = next((i for i in range(0, len(data), 2) if not any(data[i : i + 2])), len(data))
        if end >= 3 and not any(data[zeros:end:2]) and all(data[letters:end:2]):
            return _strictly(data[:end], coding)
    pieces = [piece for piece in data.split(b"\0") if piece]
    if sum(len(piece) == 1 for piece in pieces) >= 2:  # wide characters, not all of them western
        return None
    head = data.split(b"\0", 1)[0]
    text = _strictly(head, "utf-8")
    return text if text is not None else _latin(head)


def _strictly(data: bytes, coding: str) -> str | None:
    """Decodes up to the first NUL; readers of EXIF may have taken the last zero byte away."""
    if coding == "utf-16-le" and len(data) % 2:
        data += b"\0"
    try:
        return data.decode(coding).split("\0", 1)[0]
    except UnicodeDecodeError:
        return None


def _latin(data: bytes) -> str | None:
    """Decodes Latin-1 if its letters beyond ASCII are shared, and each stands beside ASCII."""
    text = data.decode("latin-1")
    high = [i for i, character in enumerate(text) if ord(character) > 127]
    alone = all(right - left > 1 for left, right in itertools.pairwise(high))
    return text if alone and {text[i] for i in high} <= _SHARED else None
