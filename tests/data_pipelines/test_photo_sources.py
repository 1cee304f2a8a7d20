"""Photos from folders and from prepared records."""

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.images import decode_image
from data_pipelines.photo_sources import file_groups, open_photos
from data_pipelines.prepare.run import Options, prepare


def test_files_near_in_time_share_a_group(make_photo):
    paths = [
        make_photo("a.jpg", time="2022:05:01 10:00:00", seed=1),
        make_photo("b.jpg", time="2022:05:01 10:00:30", seed=2),
        make_photo("c.jpg", time="2022:05:01 12:00:00", seed=3),
    ]
    groups = file_groups(paths)
    assert groups[0] == groups[1] != groups[2]


def test_a_folder_of_photos(make_photo, tmp_path):
    path = make_photo("below/a.jpg", size=(300, 200))
    (photo,) = open_photos(tmp_path)
    assert (photo.path, photo.heldout) == (str(path), False)
    np.testing.assert_array_equal(photo.read(), decode_image(path))


def test_prepared_records_keep_their_split(make_photo, tmp_path):
    for index in range(8):
        make_photo(f"photos/{index}.jpg", time=f"2022:05:0{index + 1} 10:00:00", seed=index)
    out = tmp_path / "records"
    prepare([tmp_path / "photos"], out, Options(validation_fraction=0.25), workers=1)
    photos = open_photos(out)
    assert [photo.heldout for photo in photos].count(True) == 2
    assert len({photo.group for photo in photos}) == 8
    for photo in photos:
        np.testing.assert_array_equal(photo.read(), decode_image(tmp_path / "photos" / photo.path))


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_nothing_to_read_is_one_clear_error(tmp_path, name):
    with pytest.raises(UserError, match="photos"):
        open_photos(tmp_path / name)
