"""Files that sources hold besides those to read: counted, never dropped silently."""

import shutil

import pytest

from data_pipelines.sources import find_files, format_kinds
from tests.data_pipelines.found import refusal, write


def passed_over(*sources, **kwargs) -> dict[str, int]:
    return dict(find_files(sources, **kwargs).passed_over)


PASSED_OVER = (
    *("raw/1.DNG", "raw/2.dng", "raw/3.CR2", "clip.MOV", "side/1.xmp", "notes", "._1.jpg"),
    *("a.b c", "long.averyveryverylongsuffix", ".hidden", "Thumbs.db"),
)
KINDS = {".dng": 2, ".cr2": 1, ".mov": 1, ".xmp": 1, ".db": 1, "no extension": 2, "._*": 1}
KINDS |= {"other": 2}


@pytest.fixture
def mixed(tmp_path):
    for name in ("1.jpg", "raw/1.jpg", *PASSED_OVER):
        write(tmp_path / "d" / name)
    return tmp_path / "d"


def test_what_a_folder_holds_besides_is_counted_by_extension(mixed):
    found = find_files([mixed])
    assert [item.name for item in found.items] == ["1.jpg", "raw/1.jpg"]
    assert found.passed_over == KINDS
    assert max(found.passed_over, key=found.passed_over.get) == next(iter(found.passed_over))


def test_what_is_passed_over_twice_counts_once(mixed, tmp_path):
    assert passed_over(mixed, mixed / "raw", str(mixed) + "/.", mixed / "**") == KINDS
    (tmp_path / "alias").symlink_to(mixed)
    assert passed_over(mixed, tmp_path / "alias") == KINDS


def test_what_is_given_itself_is_not_passed_over(mixed):
    assert passed_over(mixed / "raw", mixed / "raw" / "3.CR2") == {".dng": 2}
    assert passed_over(mixed / "raw" / "3.CR2") == {}
    assert passed_over(mixed / "raw" / "*.DNG") == {}


def test_what_a_pattern_finds_and_does_not_take_is_counted(mixed):
    assert passed_over(mixed / "*" / "*", mixed / "1.jpg") == {".dng": 2, ".cr2": 1, ".xmp": 1}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_an_archive_holds_besides_is_counted(mixed, tmp_path, kind):
    archive = shutil.make_archive(str(tmp_path / "a"), kind, mixed)
    assert passed_over(archive) == KINDS
    write(tmp_path / "z.txt", archive.encode())
    assert passed_over(tmp_path / "z.txt") == KINDS


def test_with_other_extensions_other_files_are_passed_over(mixed):
    assert passed_over(mixed / "raw", extensions=frozenset({".dng"})) == {".cr2": 1, ".jpg": 1}


def test_where_nothing_is_left_it_is_told_what_was_passed_over(mixed):
    (mixed / "raw" / "1.jpg").unlink()
    assert "); passed over: 2 .dng, 1 .cr2; check the path" in refusal(mixed / "raw")


def test_many_kinds_are_told_in_few_words():
    counts = {f".{n}": 100 - n for n in range(30)} | {".mov": 2000}
    words = format_kinds(dict(sorted(counts.items(), key=lambda item: -item[1])))
    assert words.startswith("2,000 .mov, 100 .0, ") and words.endswith(", 836 of other kinds")
    assert format_kinds({}) == ""


def test_small_copies_that_programs_keep_are_no_photos(tmp_path):
    for name in ("@eaDir/1.JPG/SYNOPHOTO_THUMB_XL.jpg", ".thumbnails/2.jpg", "__MACOSX/._1.JPG"):
        write(tmp_path / "d" / name)
    write(tmp_path / "d" / "1.JPG")
    found = find_files([tmp_path / "d"])
    assert [item.name for item in found.items] == ["1.JPG"]
    kinds = {"folder .thumbnails": 1, "folder @eaDir": 1, "folder __MACOSX": 1}
    assert found.passed_over == kinds
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "d")
    assert [item.name for item in find_files([archive]).items] == ["a.zip/1.JPG"]
