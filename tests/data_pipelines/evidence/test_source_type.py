import pytest

from data_pipelines.evidence.source_type import TERMS, term_of
from tests.data_pipelines.evidence.crafted import FORMATS, of_kind, the_only, with_xmp, xmp_of

ADDRESS = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("trainedAlgorithmicMedia", "generated"),
        ("compositeWithTrainedAlgorithmicMedia", "generated"),
        ("digitalCapture", "photo"),
        ("negativeFilm", "photo"),
        ("screenCapture", "nothing"),
    ],
)
def test_a_term_in_every_container(kind, term, says):
    packet = xmp_of(f'Iptc4xmpExt:DigitalSourceType="{ADDRESS}{term}"')
    item = the_only(with_xmp(kind, packet), "digital_source_type")
    assert (item.says, item.details) == (says, {"value": term})
    assert f"{term}: {TERMS[term][1]}" in item.text


@pytest.mark.parametrize(
    "packet",
    [
        xmp_of(f"Iptc4xmpExt:DigitalSourceType = '{ADDRESS}trainedAlgorithmicMedia'"),
        xmp_of(f'iptcExt:DigitalSourceType="{ADDRESS}trainedAlgorithmicMedia"'),
        xmp_of('Iptc4xmpExt:DigitalSourceType="digsrctype:trainedAlgorithmicMedia"'),
        xmp_of('Iptc4xmpExt:DigitalSourceType="trainedAlgorithmicMedia"'),
        xmp_of(f'Iptc4xmpExt:DigitalSourceFileType="{ADDRESS}trainedAlgorithmicMedia"'),
        xmp_of(
            inside="<Iptc4xmpExt:DigitalSourceType>\n "
            f"{ADDRESS}trainedAlgorithmicMedia\n</Iptc4xmpExt:DigitalSourceType>"
        ),
        xmp_of(
            inside="<Iptc4xmpExt:DigitalSourceType "
            f'rdf:resource="{ADDRESS}trainedAlgorithmicMedia"/>'
        ),
    ],
)
def test_ways_to_write_it(packet):
    item = the_only(with_xmp("JPEG", packet), "digital_source_type")
    assert item.details == {"value": "trainedAlgorithmicMedia"}


def test_an_unknown_term_is_repeated_and_says_nothing():
    packet = xmp_of(f'Iptc4xmpExt:DigitalSourceType="{ADDRESS}somethingNew"')
    item = the_only(with_xmp("PNG", packet), "digital_source_type")
    assert (item.says, item.details) == ("nothing", {"value": "somethingNew"})


def test_each_different_value_counts_once():
    packet = xmp_of(
        *[f'Iptc4xmpExt:DigitalSourceType="{t}"' for t in ("print", "print", "composite")]
    )
    found = of_kind(with_xmp("PNG", packet), "digital_source_type")
    assert [item.details["value"] for item in found] == ["print", "composite"]


def test_a_term_in_another_text_does_not_count():
    packet = xmp_of(f'dc:description="about {ADDRESS}trainedAlgorithmicMedia"')
    assert not of_kind(with_xmp("JPEG", packet), "digital_source_type")


def test_terms_of_values():
    assert term_of(f"{ADDRESS}print/ ") == "print"
    assert term_of("") == term_of("no term here") == term_of("123") == ""
