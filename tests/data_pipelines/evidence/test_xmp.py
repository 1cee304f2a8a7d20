import time

import pytest

from data_pipelines.evidence.xmp import MAX_VALUE, properties_of


def test_attributes_elements_and_lists():
    packet = b"""<r xmp:CreatorTool='A &amp; B' photoshop:Credit = "C">
    <dc:description><rdf:Alt><rdf:li xml:lang="x-default">D &lt;E&gt;</rdf:li></rdf:Alt>
    </dc:description><photoshop:Source/><dc:creator></dc:creator><tiff:Software>F"""
    assert list(properties_of(packet)) == [
        *[("CreatorTool", "A & B"), ("Credit", "C"), ("description", "D <E>")],
        ("Software", "F"),
    ]


def test_entities_are_not_expanded():
    packet = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
    <!ENTITY e SYSTEM "file:///etc/passwd"><xmp:CreatorTool>&b;&e;</xmp:CreatorTool>"""
    assert dict(properties_of(packet))["CreatorTool"] == "&b;&e;"


@pytest.mark.parametrize(
    "part",
    [
        *[b"<a:Credit>", b"<a:Credit ", b"a:Credit='", b' x:Credit="', b":Credit=", b"<x:Credit/>"],
        *[b"<a:Credit rdf:resource   ", b"</a:Credit>", b"a" * 10, b"<", b" ", b"&amp;", b"\xff"],
    ],
)
def test_hostile_packets_are_quick_and_bounded(part):
    start = time.monotonic()
    values = list(properties_of(part * (2**20 // len(part))))
    assert time.monotonic() - start < 3
    assert len(values) <= 64
    assert all(len(value) <= MAX_VALUE for _, value in values)


def test_a_cut_packet_gives_what_is_there():
    packet = b'<r xmp:CreatorTool="Draw Thi'
    assert list(properties_of(packet)) == [("CreatorTool", "Draw Thi")]
