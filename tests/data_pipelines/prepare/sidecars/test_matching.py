"""Which photo a key names."""

import pytest

from data_pipelines.prepare.sidecars.matching import NameIndex

NAMES = [
    "IMG_1.jpg",
    "trip/IMG_1.jpg",
    "trip/IMG_2.jpg",
    "a/b/IMG_3.jpg",
    "c/b/IMG_3.jpg",
    "album.zip/2021/a.jpg",
    "both.jpg",
    "both.png",
    "6110054503_d26fce212e_o.jpg",
    "title_4242733600_o.jpg",
    "title-x_4242733601.jpg",
    "99.jpg",
    "DSC_1234.jpg",
    "twice_777777.jpg",
    "777777_x.jpg",
]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("IMG_1.jpg", "IMG_1.jpg"),
        ("./IMG_1.jpg", "IMG_1.jpg"),
        ("/home/me/trip/IMG_1.jpg", "trip/IMG_1.jpg"),
        ("C:\\photos\\trip\\IMG_1.jpg", "trip/IMG_1.jpg"),
        ("/home/me/other/IMG_1.jpg", None),
        ("IMG_2.jpg", "trip/IMG_2.jpg"),
        ("elsewhere/IMG_2.jpg", "trip/IMG_2.jpg"),
        ("IMG_2", "trip/IMG_2.jpg"),
        ("IMG_2.pkl", "trip/IMG_2.jpg"),
        ("trip/IMG_1", "trip/IMG_1.jpg"),
        ("x/b/IMG_3.jpg", None),
        ("x/a/b/IMG_3.jpg", "a/b/IMG_3.jpg"),
        ("x/c/b/IMG_3.pkl", "c/b/IMG_3.jpg"),
        ("2021/a.jpg", "album.zip/2021/a.jpg"),
        ("both.png", "both.png"),
        ("both", None),
        ("", None),
        ("/", None),
        (".", None),
        ("nothing.jpg", None),
        ("x/" * 9999 + "IMG_1.jpg", None),
    ],
)
def test_paths(key, name):
    assert NameIndex(NAMES).by_path(key) == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("6110054503", "6110054503_d26fce212e_o.jpg"),
        ("4242733600", "title_4242733600_o.jpg"),
        ("4242733601", "title-x_4242733601.jpg"),
        ("99", "99.jpg"),
        ("1234", None),
        ("777777", None),
        ("", None),
    ],
)
def test_ids(key, name):
    assert NameIndex(NAMES).by_id(key) == name
