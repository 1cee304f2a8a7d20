import piexif
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.camera_names import normalise_make, normalise_model
from data_pipelines.exif import load_exif
from data_pipelines.tags import parse_tags
from data_pipelines.text_coding import decode_text
from tests.data_pipelines.jpegs import jpeg


def made_by(make: bytes) -> bytes:
    """A photo with a maker of these bytes."""
    names = {piexif.ImageIFD.Make: make, piexif.ImageIFD.Model: b"M10"}
    return jpeg(exif=piexif.dump({"0th": names}))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ACME", "ACME"),
        (b"ACME\0\0\0\0", "ACME"),
        (b"LEICA CAMERA AG\0junk", "LEICA CAMERA AG"),
        (b"Canon\0x", "Canon"),
        (b"Voigtl\xc3\xa4nder", "Voigtländer"),
        ("小米".encode(), "小米"),
        (b"\xef\xbb\xbfACME", "ACME"),
        ("ACME".encode("utf-16-le"), "ACME"),
        ("ACME\0".encode("utf-16-le"), "ACME"),
        ("ACME".encode("utf-16-le")[:-1], "ACME"),  # the last zero taken for an end
        ("ACME\0".encode("utf-16-le") + b"junk", "ACME"),
        ("ACME".encode("utf-16-be"), "ACME"),
        ("ACME\0".encode("utf-16-be"), "ACME"),
        ("LG".encode("utf-16-le"), "LG"),
        ("Société".encode("utf-16-le"), "Société"),
        (b"\xff\xfe" + "小米".encode("utf-16-le"), "小米"),
        (b"\xfe\xff" + "ACME\0".encode("utf-16-be"), "ACME"),
        ("Voigtländer".encode("latin-1"), "Voigtländer"),
        ("Société".encode("latin-1"), "Société"),
        (b"NIKON\n", "NIKON\n"),
        (b"", ""),
    ],
)
def test_texts_of_a_certain_coding(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@pytest.mark.parametrize(
    "data",
    [
        "ACME".encode("utf-32-le"),
        "小米".encode("utf-16-le"),
        "小米 Mi".encode("utf-16-le"),
        "佳能".encode("gbk"),
        "キヤノン".encode("shift-jis"),
        "ニコン".encode("euc-jp"),
        "삼성".encode("euc-kr"),
        "Зенит".encode("cp1251"),
        "Зенит".encode("koi8-r"),
        "Zorki Зенит".encode("cp1251"),
        "Røde".encode("latin-1"),  # another letter in Turkish text? Not shared, so not certain
        "Canon™".encode("cp1252"),
        b"Canon\xae",
        b"\x0f\x11\x12\x13",
        "Can\ufffdn".encode(),
        b"\xff\xff\xff\xff",
    ],
)
def test_texts_of_another_coding_are_missing(data: bytes) -> None:
    assert not (decode_text(data) or "").strip("".join(map(chr, range(32))))
    assert normalise_make(data) is None
    values = parse_tags(load_exif(made_by(data)).raw)
    assert values == {"Model": "M10"}


@pytest.mark.parametrize("coding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16", "latin-1"])
@pytest.mark.parametrize(("make", "expected"), [("ACME", "ACME"), ("NIKON CORPORATION", "Nikon")])
def test_makers_in_files_have_one_spelling_in_every_coding(
    coding: str, make: str, expected: str
) -> None:
    values = parse_tags(load_exif(made_by(make.encode(coding))).raw)
    assert values == {"Make": expected, "Model": f"{expected} M10"}


def test_names_that_lost_letters_are_missing() -> None:
    assert normalise_make("?L???m??") is normalise_make("Can?n") is None
    assert normalise_model("??? M10", "Leica") is None


def test_raw_values_of_either_type_are_decoded() -> None:
    wide = "ACME".encode("utf-16-le")
    assert normalise_make(wide) == normalise_make(wide.decode("latin-1")) == "ACME"
    assert normalise_model("M10".encode("utf-16-be"), wide) == "ACME M10"


def test_true_text_of_a_sidecar_is_left_alone() -> None:
    assert normalise_make("Røde") == "Røde".upper()
    assert normalise_make("小米") == "小米"


@given(st.binary(max_size=99))
def test_any_bytes_are_text_or_missing(data: bytes) -> None:
    text = decode_text(data)
    assert text is None or "\0" not in text


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=2, max_size=40))
def test_ascii_comes_back_from_every_coding(text: str) -> None:
    for coding in ("ascii", "utf-16-le", "utf-16-be", "utf-16", "utf-8-sig"):
        assert decode_text(text.encode(coding)) == text
