"""CSV lists of labelled images."""

from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images


def listed(folder: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_paths_labels_sets_and_groups(tmp_path):
    path = listed(
        tmp_path,
        "group,path,label,test_set,remark\n"
        "scene 1,photos/a.jpg,0,flux,x\n"
        "scene 1,photos/b.jpg,0,flux,\n"
        ",photos/c.jpg,0,sd3,\n"
        f"scene 1,{tmp_path}/fakes/d.png,1,flux,\n"
        ",fakes/e.png, 1 ,sd3,\n"
        ",photos/c.jpg,0,flux,\n"
        ",photos/c.jpg,0,flux,\n"
        "\n",
    )
    flux, sd3 = find_test_sets(path)
    assert (flux.name, sd3.name) == ("flux", "sd3")
    assert [p.name for p in flux.real] == ["a.jpg", "b.jpg", "c.jpg"]
    assert flux.generated == (tmp_path / "fakes/d.png",)
    assert sd3.real == (tmp_path / "photos/c.jpg",)
    images = {image.path.name: image for image in labelled_images([flux, sd3])}
    assert [images[name].label for name in ("a.jpg", "c.jpg", "d.png", "e.png")] == [0, 0, 1, 1]
    assert images["a.jpg"].group == images["b.jpg"].group == images["d.png"].group
    assert len({image.group for image in images.values()}) == 3


def test_without_test_sets_it_is_one_named_after_the_list(tmp_path):
    text = '\ufeffPath,Label\r\na.jpg,0\r\n"b, or c.png",1\r\n'
    (found,) = find_test_sets(listed(tmp_path, text, "holdout.csv"))
    assert (found.name, found.real) == ("holdout", (tmp_path / "a.jpg",))
    assert found.generated == (tmp_path / "b, or c.png",)


def test_given_groups_are_kept_beside_bursts(tmp_path, make_photo):
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        make_photo(name, time="2022:05:01 10:00:00")
    lines = ["path,label,group", "0.jpg,0,0", "1.jpg,0,", "2.jpg,0,", "x.png,1,0", "y.png,1,"]
    images = labelled_images(find_test_sets(listed(tmp_path, "\n".join(lines))), bursts=True)
    groups = {image.path.name: image.group for image in images}
    assert groups["0.jpg"] == groups["x.png"]
    assert groups["1.jpg"] == groups["2.jpg"]
    assert len(set(groups.values())) == 3


def test_names_that_are_no_valid_text_or_hold_odd_characters(tmp_path):
    path = listed(tmp_path, b"path,label\n\xff.jpg,0\nb\xe2\x80\xa8\x1c.png,1\n")
    (found,) = find_test_sets(path)
    assert found.real == (tmp_path / "\udcff.jpg",)
    assert found.generated == (tmp_path / "b\u2028\x1c.png",)


def test_an_image_is_no_list(tmp_path, make_photo):
    with pytest.raises(UserError, match="path is missing in") as error:
        find_test_sets(make_photo("a.jpg"))
    assert len(str(error.value)) < 400 + len(str(tmp_path)) and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "label of labelled|path is missing in an empty file"),
        ("file,label\na.jpg,0\n", "path is missing in file, label"),
        ("a.jpg,0\nb.png,1\n", "path is missing"),
        ("path,label\n", "no images in this list"),
        ("path,label\na.jpg,0\n", "no generated images in the test set 'list'"),
        (f"path,label,test_set\na.jpg,0,{'a' * 9999}\n", f"in the test set '{'a' * 100}'$"),
        ("path,label\na.jpg,0\nb.png,fake\n", "line 3: label 'fake'; write 0"),
        ("path,label\na.jpg,0\n,1\n", "line 3: no path"),
        ("path,label\na.jpg\nb.png,1\n", "line 2: label ''"),
        ("path,label\na.jpg,0\na.jpg,1\n", "line 3: .*a.jpg has another label"),
        ('path,label\n"a.jpg,0\n', "no CSV"),
    ],
)
def test_bad_lists_give_one_clear_error(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        find_test_sets(listed(tmp_path, text))
    assert "list.csv" in str(error.value) and "\n" not in str(error.value)
