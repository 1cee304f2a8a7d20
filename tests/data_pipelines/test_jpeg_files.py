import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import ImageError, decode_image, open_image, to_rgb
from data_pipelines.jpeg_files import completed, damage
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows
from tests.data_pipelines.jpegs import CODINGS, CUT, END, WHOLE, jpeg, scene


def answers(data: bytes) -> set[str]:
    """What decoding and cutting windows say: "" if they take it."""

    def reason(read) -> str:
        try:
            read()
        except ImageError as error:
            assert str(error) and "\n" not in str(error)
            return error.reason
        return ""

    found = {reason(lambda: decode_image(data))}
    if block_size(data) is not None:
        found.add(reason(lambda: cut_windows(data, [(32, 0)], 256)))
    return found


@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("coding", CODINGS)
def test_where_all_of_the_image_is_there_it_is_taken(coding: str, how: str) -> None:
    whole = CODINGS[coding]
    data = WHOLE[how](whole)
    np.testing.assert_array_equal(decode_image(data), decode_image(whole))
    assert damage(completed(data)) == ""
    if block_size(whole) is not None:
        assert cut_windows(data, [(32, 0)], 256) == cut_windows(whole, [(32, 0)], 256)


@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("coding", CODINGS)
def test_where_data_is_missing_it_is_damaged_to_everyone(coding: str, how: str) -> None:
    assert answers(CUT[how](CODINGS[coding])) == {"undecodable"}


def test_restarts_that_are_missing_are_damage() -> None:
    data = CODINGS["restarts"]
    assert answers(data[:-2000] + bytes(1500) + data[-500:]) == {"undecodable"}
    assert answers(data[:-2000] + data[-500:]) == {"undecodable"}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_file_with_its_end_is_itself(coding: str) -> None:
    data = CODINGS[coding]
    assert completed(data) is data
    assert completed(data[:-2]) == data


def test_the_end_of_a_thumbnail_is_not_that_of_the_image() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    block = exif.tobytes() + CODINGS["grey"]
    data = jpeg(exif=block)
    assert data.count(END) > 1
    assert completed(data[:-2]) == data
    assert answers(data[:-900]) == {"undecodable"}


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_plain_pictures_whose_code_is_zeros_are_whole(colour: int) -> None:
    for options in ({}, {"optimize": True}, {"progressive": True}):
        data = jpeg(Image.new("RGB", (512, 512), (colour,) * 3), **options)
        assert damage(completed(data)) == ""
        assert decode_image(data).shape == (512, 512, 3)


def test_odd_headers_harm_nothing() -> None:
    data = jpeg(scene(640, 480))
    odd = data.replace(b"JFIF\0\1", b"JFIF\0\7", 1)
    assert odd != data
    assert answers(odd) == {""}
    before = data.index(b"\xff\xda")
    assert answers(data[:before] + b"stray bytes " * 9 + data[before:]) == {""}


def test_bytes_that_are_no_jpeg_are_left_alone() -> None:
    for data in (b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0\0", b"\xff" * 99):
        assert completed(data) is data
        assert answers(data) <= {"empty_file", "not_an_image", "undecodable"}


@given(st.data())
def test_any_damage_gets_one_answer(data: st.DataObject) -> None:
    coding = data.draw(st.sampled_from(["baseline", "progressive", "restarts"]))
    damaged = bytearray(CODINGS[coding])
    for position in data.draw(st.lists(st.integers(2, len(damaged) - 1), max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 400))
    changed = bytes(damaged[: len(damaged) - cut]) + bytes(data.draw(st.integers(0, 400)))
    completed(changed)
    found = answers(changed)
    if len(found) > 1:  # a header that one reads and the other does not
        with pytest.raises(ImageError):
            decode_image(changed)
        assert open_image(changed)


def test_an_image_may_be_decoded_in_parts() -> None:
    data = CODINGS["baseline"]
    image = open_image(data[:-2])
    whole = decode_image(data)
    for box in ((0, 0, 64, 64), (32, 16, 288, 272)):
        left, top, right, bottom = box
        np.testing.assert_array_equal(to_rgb(image, box), whole[top:bottom, left:right])
