from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.labelled import LabelledImage, find_test_sets, labelled_images


def make(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_every_layout_at_any_depth_and_in_any_case(tmp_path: Path) -> None:
    make(
        tmp_path,
        "progan/car/0_real/b.png",
        "progan/car/0_real/a.JPG",
        "progan/car/1_fake/deep/er/c.png",
        "progan/cat/0_real/d.png",
        "progan/cat/1_fake/e.png",
        "Midjourney/train/nature/f.jpeg",
        "Midjourney/train/ai/g.png",
        "Midjourney/val/nature/h.jpeg",
        "Midjourney/val/ai/i.png",
        "glide/Real/j.png",
        "glide/FAKE/k.png",
        "glide/FAKE/notes.txt",
        ".cache/real/l.png",
    )
    sets = find_test_sets(tmp_path)
    assert [s.name for s in sets] == ["Midjourney", "glide", "progan"]
    progan = sets[2]
    assert [path.name for path in progan.real] == ["a.JPG", "b.png", "d.png"]
    assert [path.name for path in progan.generated] == ["c.png", "e.png"]
    assert [path.name for path in sets[0].real] == ["f.jpeg", "h.jpeg"]
    assert [path.name for path in sets[1].generated] == ["k.png"]
    assert sets == find_test_sets(tmp_path)


def test_a_pair_in_the_directory_itself_is_one_set_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "mine", "real/a.png", "fake/b.png", "more/real/c.png", "more/fake/d.png")
    (found,) = find_test_sets(root)
    assert (found.name, len(found.real), len(found.generated)) == ("mine", 2, 2)
    monkeypatch.chdir(root)
    assert find_test_sets(Path())[0].name == "mine"


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "elsewhere", "real/a.png", "fake/b.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    (found,) = find_test_sets(root)
    assert (found.name, len(found.real), len(found.generated)) == ("linked", 1, 1)


def test_a_top_folder_without_a_pair_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "a/real/x.png", "a/fake/y.png", "stray/z.png")
    assert [s.name for s in find_test_sets(tmp_path)] == ["a"]
    assert "stray" in caplog.text


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["photos/a.png"], ["no labelled images", "0_real/1_fake", "real/fake", "nature/ai"]),
        (["gan/0_real/a.png"], ["gan", "one class only", "no 1_fake"]),
        (["gan/x/ai/a.png"], ["gan/x", "one class only", "no nature"]),
        (["gan/0_real/a.png", "gan/fake/b.png"], ["one class only"]),
        (["gan/a/real/a.png", "gan/a/fake/b.png", "gan/b/real/c.png"], ["gan/b", "no fake"]),
        (["gan/real/a.png", "gan/fake/readme.txt"], ["gan/fake", "no images"]),
    ],
)
def test_bad_folders_give_one_clear_error(
    tmp_path: Path, files: list[str], parts: list[str]
) -> None:
    make(tmp_path, *files)
    with pytest.raises(UserError) as error:
        find_test_sets(tmp_path)
    for part in parts:
        assert part in str(error.value)


def test_what_is_no_image_by_its_name_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "a/real/x.png", "a/real/._x.png", "a/real/Thumbs.db", "a/fake/y.png")
    make(tmp_path, "a/fake/deep/._y.png", "a/fake/index.html", "a/fake/prompts.txt")
    (found,) = find_test_sets(tmp_path)
    assert len(found.real) == len(found.generated) == 1
    assert "passed over, as no images by their names: 2 ._*, 1 " in caplog.text
    (tmp_path / "a/fake/y.png").unlink()
    with pytest.raises(UserError, match=r"no images in this class folder \(.*1 \._\*"):
        find_test_sets(tmp_path)


def test_classes_of_different_formats_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "a/real/0.jpg", "a/real/1.JPEG", "a/real/2.png", "a/fake/0.png", "a/fake/1.webp")
    make(tmp_path, "b/real/0.jpg", "b/real/1.png", "b/fake/0.jfif", "b/fake/1.webp")
    find_test_sets(tmp_path)
    assert "a: photographs are mostly JPEG, generated images mostly PNG: what" in caplog.text
    assert "b: photographs" not in caplog.text


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        find_test_sets(tmp_path / "nowhere")


def test_labelled_images_lists_paths_with_labels_and_groups(
    tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    make_photo("a/real/0.jpg", time="2022:05:01 10:00:00", seed=0)
    make_photo("a/real/1.jpg", time="2022:05:01 10:00:30", seed=1)
    make_photo("a/real/2.jpg", time="2022:05:01 12:00:00", seed=2)
    make(tmp_path, "a/fake/0.png")
    images = labelled_images(find_test_sets(tmp_path))
    files = [("0.jpg", 0), ("1.jpg", 0), ("2.jpg", 0), ("0.png", 1)]
    assert [(image.path.name, image.label) for image in images] == files
    path = tmp_path / "a/fake/0.png"
    assert images[3] == LabelledImage(path, 1, str(path))
    assert len({image.group for image in images}) == 4
    grouped = labelled_images(find_test_sets(tmp_path), bursts=True)
    assert [(image.path.name, image.label) for image in grouped] == files
    assert grouped[0].group == grouped[1].group
    assert len({image.group for image in grouped}) == 3
