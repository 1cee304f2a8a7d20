"""Properties of an XMP packet, found by their names.

No XML parser is used. A packet may hold entities that grow without end, a depth that no stack holds
and links to the network; it is often cut or damaged; and a dozen properties are wanted, which
writers put down in two ways only, as an attribute or as an element. Searching for the names takes a
time that grows with the length alone, and reads damaged packets too. The price: prefixes are not
resolved to namespaces (writers keep the customary ones), and a property in an XML comment counts.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

MAX_VALUE: Final = 4096
"""Longest value that is looked at."""
_MAX_OF_A_NAME: Final = 64
_MAX_PREFIX: Final = 48

_NAMES: Final = (
    *("DigitalSourceType", "DigitalSourceFileType", "AISystemUsed", "AIPromptInformation"),
    *("CreatorTool", "softwareAgent", "Software", "Credit", "Source", "source", "creator"),
    *("description", "UserComment", "AIGC", "provenance"),
)
# A name begins with its colon, so that a long run of letters costs nothing.
_NAME: Final = re.compile(rf":({'|'.join(_NAMES)})(?=[\s=>/])")
_BEFORE: Final = re.compile(r"(</?|\s)[\w.-]+\Z")
_ATTRIBUTE: Final = re.compile(r"""\s{0,16}=\s{0,16}(?:"([^"]*)|'([^']*))""")
_RESOURCE: Final = re.compile(r"""rdf:resource\s*=\s*(?:"([^"]*)|'([^']*))""")
_MARKUP: Final = re.compile(r"<[^<>]*>")


def properties_of(packet: bytes) -> Iterator[tuple[str, str]]:
    """Yields names, without their prefix, and values of the known properties of a packet."""
    text = packet.decode("utf-8", "replace")
    found: Counter[str] = Counter()
    for match in _NAME.finditer(text):
        name = match[1]
        before = _BEFORE.search(text[max(0, match.start() - _MAX_PREFIX) : match.start()])
        if before is None or before[1] == "</" or found[name] == _MAX_OF_A_NAME:
            continue
        found[name] += 1
        rest = text[match.end() : match.end() + MAX_VALUE]
        value = _element(name, rest) if before[1] == "<" else _attribute(rest)
        if value := html.unescape(value).strip():
            yield name, value


def _attribute(rest: str) -> str:
    match = _ATTRIBUTE.match(rest)
    return (match[1] or match[2] or "") if match else ""


def _element(name: str, rest: str) -> str:
    head, closed, body = rest.partition(">")
    if resource := _RESOURCE.search(head):
        return resource[1] or resource[2] or ""
    if not closed or head.endswith("/"):
        return ""
    inside, ended, _ = body.partition(f":{name}>")
    return _MARKUP.sub(" ", inside.rpartition("</")[0] if ended else body)
