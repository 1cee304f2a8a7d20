from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.camera_names import (
    MAKERS,
    MAX_TEXT_LENGTH,
    clean_text,
    normalise_make,
    normalise_model,
)
from data_pipelines.exif import load_exif
from data_pipelines.tags import parse_tags


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Canon", "Canon"),
        ("NIKON CORPORATION", "Nikon"),
        ("SONY", "Sony"),
        ("Sony Ericsson", "Sony Ericsson"),
        ("OLYMPUS IMAGING CORP.  ", "Olympus"),
        ("OLYMPUS OPTICAL CO.,LTD", "Olympus"),
        ("OM Digital Solutions", "Olympus"),
        ("PENTAX Corporation ", "Pentax"),
        ("RICOH IMAGING COMPANY, LTD.", "Ricoh"),
        ("samsung" + "\0" * 24, "Samsung"),
        ("Samsung Techwin", "Samsung"),
        ("JK Imaging, Ltd.       ", "Kodak"),
        ("SEIKO EPSON CORP.", "Epson"),
        (b"LEICA CAMERA AG\0junk", "Leica"),
        ("FUJI PHOTO FILM CO., LTD.", "Fujifilm"),
        ("CASIO COMPUTER CO.,LTD.", "Casio"),
        ("OLYMPUS CORPORATION", "Olympus"),
        ("OM SYSTEM", "Olympus"),
        ("Hewlett-Packard Company", "HP"),
        ("Konica Corporation", "Minolta"),
        ("INFINIX MOBILITY LIMITED", "Infinix"),
        ("LG Electronics", "LG"),
        ("Research In Motion", "BlackBerry"),
        ("General Imaging Co.", "GE"),
        ("Arashi Vision", "Insta360"),
        ("RaspberryPi", "Raspberry Pi"),
        ("AgfaPhoto GmbH", "Agfa"),
        ("YI TECHNOLOGY", "YI"),
        ("LeMobile", "LeEco"),
        ("HONOR", "Honor"),
        ("APEMAN" + "\0" * 25, "APEMAN"),
        ("Hasselblad", "Hasselblad"),
        ("CONTAX", "Contax"),
        ("Unheard Optics Co., Ltd.", "Unheard Optics"),
        ("UNHEARD TECHNOLOGY CO.,LTD", "Unheard"),
        ("UNHEARD OPTICS", "Unheard Optics"),
        ("LGX", "LGX"),  # not LG: the name goes on
        ("\0\0", None),
        ("   ", None),
        ("----", None),
        ("x" * (MAX_TEXT_LENGTH + 1), None),
        (7, None),
        (None, None),
    ],
)
def test_makes_have_one_spelling(written: object, expected: str | None) -> None:
    assert normalise_make(written) == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 700D", "Canon EOS 700D"),
        ("Canon", "EOS 700D", "Canon EOS 700D"),
        ("NIKON CORPORATION", "NIKON D200", "Nikon D200"),
        ("Hewlett-Packard", "HP HP PhotoSmart C812 (V09.33) ", "HP PhotoSmart C812 (V09.33)"),
        ("EASTMAN KODAK COMPANY", "KODAK EASYSHARE Z1012", "Kodak EASYSHARE Z1012"),
        ("OM Digital Solutions", "OM-1", "Olympus OM-1"),
        ("PENTAX Corporation", "PENTAX *ist D", "Pentax ist D"),
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-1", "Ricoh PENTAX K-1"),
        ("Xiaomi", "Redmi Note 9", "Xiaomi Redmi Note 9"),
        ("Redmi", "Redmi Note 9", "Xiaomi Redmi Note 9"),
        ("POCO", "POCO F3", "Xiaomi POCO F3"),
        ("Apple", "iPhone 7\0\0", "Apple iPhone 7"),
        ("HTC", "HTC", "HTC HTC"),
        (None, "X100", "X100"),
        ("Canon", "\0", None),
    ],
)
def test_models_name_the_maker_once(make: object, model: object, expected: str | None) -> None:
    assert normalise_model(model, make) == expected


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none()), st.one_of(st.text(), st.none()))
def test_any_text_is_short_and_printable_or_missing(value: object, make: object) -> None:
    text = clean_text(value)
    assert text is None or (0 < len(text) <= MAX_TEXT_LENGTH and text.isprintable())
    for name in (normalise_make(value), normalise_model(value, make)):
        assert name is None or (name == name.strip() and name.isprintable())


def test_a_length_may_be_given_to_cut_at() -> None:
    assert clean_text("a" * 100, max_length=70) == "a" * 70
    assert clean_text(b"\xff" * 10**6, max_length=256) == "ÿ" * 256
    assert clean_text("-" * 70 + "a", max_length=70) is None


def test_each_maker_of_the_table_is_its_own_name() -> None:
    for start, name in MAKERS.items():
        assert start == start.lower()
        assert normalise_make(name) == name
        assert normalise_make(f"{start.upper()} CO., LTD.") == name


def test_real_photos_name_few_makers_each_with_one_spelling(real_data: Path) -> None:
    paths = sorted((real_data / "dev/photos").rglob("*.jpg"))[::10]
    tags = [parse_tags(load_exif(path).raw) for path in paths]
    makes = {str(values["Make"]) for values in tags if "Make" in values}
    assert makes <= set(MAKERS.values())
    assert len({make.casefold() for make in makes}) == len(makes)
