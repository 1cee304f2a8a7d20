import bz2
import concurrent.futures
import dataclasses
import io
import json
import multiprocessing
import os
import stat
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.items import Item
from data_pipelines.sources import read_item
from tests.data_pipelines.found import LIMIT, contents, find_items, names, reason, refusal, write


def make_tar(path: Path, members: dict[str, bytes], **kwargs) -> Path:
    with tarfile.open(path, "w", **kwargs) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, members, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names given twice
        for name, data in pairs:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_archive(tmp_path, make):
    long = "long/" * 60 + "d.jpg"
    members = {
        "2021/a.JPG": b"a" * 1000,
        "b.jpg": b"b",
        "notes.txt": b"no",
        "__MACOSX/2021/._a.jpg": b"no",
        "__MACOSX/c.jpg": b"no",
        "2021/._a.jpg": b"no",
        "häß lich.png": b"u",
        "empty.jpg": b"",
        long: b"long",
    }
    suffix = make.__name__[5:]
    (tmp_path / "photos" / "x").mkdir(parents=True)
    path = make(tmp_path / "photos" / "x" / f"album.{suffix}", members)
    for source, prefix in (path, ""), (tmp_path / "photos", "x/"):
        items = {item.name: item for item in find_items([source])}
        base = f"{prefix}album.{suffix}"
        kept = ("2021/a.JPG", "b.jpg", "häß lich.png", "empty.jpg", long)
        assert sorted(items) == list(items) == sorted(f"{base}/{name}" for name in kept)
        assert reason(items.pop(f"{base}/empty.jpg")) == "empty_file"
        for name, item in items.items():
            assert item.path == str(path)
            assert item.size == len(members[item.member])
            again = Item(**json.loads(json.dumps(dataclasses.asdict(item))))
            assert read_item(again, max_bytes=1000) == members[name.removeprefix(f"{base}/")]
        assert reason(items[f"{base}/2021/a.JPG"], max_bytes=999) == "too_many_bytes"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats(tmp_path, format):
    members = {"a/" * 40 + "x.jpg": b"x" * 512, "y.jpg": b"y" * 513}
    found = contents(make_tar(tmp_path / "T.TAR", members, format=format))
    assert found == {f"T.TAR/{name}": data for name, data in members.items()}


def test_members_that_are_no_files(tmp_path):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.jpg")
            info.type, info.linkname = kind, "a.jpg"
            archive.addfile(info)
        info = tarfile.TarInfo("a.jpg")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"a"))
    assert names(path) == ["t.tar/a.jpg"]
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = make_zip(tmp_path / "z.zip", [("d.jpg/", b""), (link, b"a.jpg"), ("a.jpg", b"a")])
    assert names(path) == ["z.zip/a.jpg"]


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_member_names_become_clean_relative_paths(tmp_path, make):
    members = {"../../etc/a.jpg": b"1", "/etc/a.jpg": b"2", "./etc//a.jpg": b"3", "w\\b.jpg": b"4"}
    path = make(tmp_path / f"x.{make.__name__[5:]}", members)
    base = path.name
    assert contents(path) == {
        f"{base}/etc/a.jpg": b"1",
        f"{base}/etc/a.jpg#2": b"2",
        f"{base}/etc/a.jpg#3": b"3",
        f"{base}/w/b.jpg": b"4",
    }


def test_tar_member_name_that_is_no_text(tmp_path):
    path = make_tar(tmp_path / "t.tar", {"a\udcff.jpg": b"x"}, format=tarfile.GNU_FORMAT)
    (item,) = find_items([path])
    assert item.name == "t.tar/a\\udcff.jpg"
    assert read_item(Item(**json.loads(json.dumps(dataclasses.asdict(item)))), max_bytes=1) == b"x"


def test_equal_names_get_their_own_items(tmp_path):
    members = [("a.jpg", b"1"), ("a.jpg", b"22"), ("a.jpg#2", b"no image"), ("a.jpg", b"333")]
    path = make_zip(tmp_path / "z.zip", members)
    assert contents(path) == {
        "z.zip/a.jpg": b"1",
        "z.zip/a.jpg#2": b"22",
        "z.zip/a.jpg#3": b"333",
    }


def test_made_up_name_is_not_one_that_exists(tmp_path):
    write(tmp_path / "d" / "z.zip.d" / "x.jpg")
    members = [("a.jpg", b"1"), ("a.jpg", b"2"), ("a.jpg#2/../a.jpg", b"no")]
    found = names(make_zip(tmp_path / "d" / "z.zip", members), tmp_path / "d")
    assert len(found) == len(set(found)) == 4


def patch(path: Path, signature: bytes, offset: int, layout: str, value: int) -> None:
    """Sets a field of all the headers of a zip archive."""
    data = bytearray(path.read_bytes())
    start = data.find(signature)
    while start >= 0:
        struct.pack_into(layout, data, start + offset, value)
        start = data.find(signature, start + 1)
    path.write_bytes(data)


def test_encrypted_member(tmp_path):
    path = make_zip(tmp_path / "z.zip", {"a.jpg": b"data"})
    patch(path, b"PK\1\2", 8, "<H", 1)
    patch(path, b"PK\3\4", 6, "<H", 1)
    (item,) = find_items([path])
    with pytest.raises(ImageError, match="encrypted") as caught:
        read_item(item, max_bytes=LIMIT)
    assert caught.value.reason == "unreadable"


def test_checksum_is_compared(tmp_path):
    path = make_zip(tmp_path / "z.zip", {"a.jpg": b"data"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"data", b"dada"))
    with pytest.raises(ImageError, match="CRC"):
        read_item(find_items([path])[0], max_bytes=LIMIT)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compression(tmp_path, compression):
    path = make_zip(tmp_path / "z.zip", {"a.jpg": b"data"}, compression)
    with pytest.raises(ImageError, match=f"compression method {compression} is not supported"):
        read_item(find_items([path])[0], max_bytes=LIMIT)


def test_zip_bomb(tmp_path):
    path = make_zip(tmp_path / "z.zip", {"a.jpg": bytes(10**7)})
    (item,) = find_items([path])
    assert item.size == 10**7
    assert reason(item) == "too_many_bytes"
    patch(path, b"PK\1\2", 24, "<I", 1000)  # says that it is small
    (item,) = find_items([path])
    assert item.size == 1000
    assert reason(item) == "unreadable"
    patch(path, b"PK\1\2", 24, "<I", 2 * 10**7)  # says that it is larger
    (item,) = find_items([path])
    assert reason(item) == "too_many_bytes"


def test_member_shorter_than_it_says(tmp_path):
    path = make_zip(tmp_path / "z.zip", {"a.jpg": b"data"})
    patch(path, b"PK\1\2", 24, "<I", 1000)
    assert reason(find_items([path])[0]) == "unreadable"


def test_archive_that_changes_after_listing(tmp_path):
    for make in make_tar, make_zip:
        path = make(tmp_path / f"x.{make.__name__[5:]}", {"a.jpg": b"data"})
        (item,) = find_items([path])
        path.write_bytes(b"")
        assert reason(item) == "unreadable"
        path.unlink()
        assert reason(item) == "unreadable"
        make(path, {"b.jpg": b"new", "a.jpg": b"other"})
        (a, b) = find_items([path])
        assert read_item(a, max_bytes=LIMIT) == b"other"
        assert read_item(b, max_bytes=LIMIT) == b"new"


def test_sparse_member_cannot_be_read(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000001000\0"
    header[483:495] = b"00000001000\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = write(tmp_path / "t.tar", bytes(header) + b"x" * 512 + bytes(1024))
    assert reason(find_items([path])[0]) == "unreadable"


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
@pytest.mark.parametrize("data", [b"", b"hello", b"hello" * 1000, bz2.compress(b"x" * 9999)])
def test_no_archive(tmp_path, name, data):
    message = refusal(write(tmp_path / name, data))
    assert message.startswith(f"{tmp_path / name}: no {name[2:]} archive, damaged or cut short: 0 ")
    assert message.endswith("copy it again")


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".TAR.ZST"])
def test_compressed_tar(tmp_path, suffix):
    file = write(tmp_path / f"photos{suffix}")
    assert refusal(file).startswith(
        f"{file}: a compressed tar cannot be read at random; decompress"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.tar", "no tar archive, damaged or cut short: 0 members were readable, then"),
        ("x.zip", "no zip archive, damaged or cut short: 0 members were readable, then"),
        ("x.tgz", "a compressed tar cannot be read at random; decompress it first"),
    ],
)
def test_bad_archive_is_one_rejected_file_where_it_is_not_named(tmp_path, name, words):
    write(tmp_path / "d" / "1.jpg")
    path = write(tmp_path / "d" / name, b"hello")
    _, item = find_items([tmp_path / "d"])
    again = Item(**json.loads(json.dumps(dataclasses.asdict(item))))
    assert again.name == name
    with pytest.raises(ImageError) as caught:
        read_item(again, max_bytes=LIMIT)
    assert caught.value.reason == "unreadable"
    assert str(caught.value).startswith(words)
    listing = write(tmp_path / "l.txt", f"d/{name}".encode())
    for source in path, tmp_path / "d" / f"*{path.suffix}", listing:
        assert refusal(tmp_path / "d", source).startswith(f"{path}: {words}")


def test_archive_that_cannot_be_opened(tmp_path):
    path = tmp_path / "gone.zip"
    path.symlink_to(tmp_path / "nowhere")
    (item,) = find_items([tmp_path])
    with pytest.raises(ImageError, match=r"^cannot be read \(No such file or directory\); change"):
        read_item(item, max_bytes=LIMIT)


def test_bad_header_in_the_middle_of_a_tar(tmp_path):
    path = make_tar(tmp_path / "t.tar", {f"{i}.jpg": b"x" * 100 for i in range(5)})
    data = bytearray(path.read_bytes())
    data[3 * 1024 + 150] ^= 1
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(f"{path}: no tar archive, damaged or cut short: 3 members were")
    assert "a bad header" in message


def test_tar_with_a_member_cut_short(tmp_path):
    path = make_tar(tmp_path / "t.tar", {"a.jpg": b"a" * 100, "b.jpg": b"b" * 5000})
    path.write_bytes(path.read_bytes()[:4000])
    assert "1 members were readable, then ReadError: unexpected end of data" in refusal(path)


def test_empty_archives_have_no_photos(tmp_path):
    assert "no images found" in refusal(make_tar(tmp_path / "t.tar", {}))
    assert "no images found" in refusal(make_zip(tmp_path / "z.zip", {}))


MEMBERS = {f"{i}.jpg": bytes([i]) * (300 * i + 1) + b"end" for i in range(4)}


@pytest.mark.parametrize("make", [make_tar, make_zip])
@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=60)
def test_archive_cut_short_is_noticed(tmp_path_factory, make, data):
    path = make(tmp_path_factory.mktemp("cut") / f"x.{make.__name__[5:]}", MEMBERS)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), "length")])
    try:
        items = find_items([path])
    except UserError as error:
        assert str(path) in str(error)
        return
    assert len(items) == len(MEMBERS)
    for item in items:
        assert read_item(item, max_bytes=LIMIT) == MEMBERS[item.member]


@pytest.mark.parametrize("make", [make_tar, make_zip])
@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=100)
def test_damaged_archive_gives_one_clear_error(tmp_path_factory, make, data):
    path = make(tmp_path_factory.mktemp("damaged") / f"x.{make.__name__[5:]}", MEMBERS)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1), "position")
    content[position] = data.draw(st.integers(0, 255), "value")
    path.write_bytes(content)
    try:
        items = find_items([path])
    except UserError:
        return
    for item in items:
        try:
            read = read_item(item, max_bytes=LIMIT)
        except ImageError:
            continue
        if make is make_zip:  # tar has no checksums of the data
            assert read in MEMBERS.values()


def test_zip_is_read_by_threads(tmp_path):
    members = {f"{i}.jpg": os.urandom(5000) for i in range(50)}
    items = find_items([make_zip(tmp_path / f"{i}.zip", members) for i in range(6)])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda item: read_item(item, max_bytes=LIMIT), items * 3))
    assert read == [members[item.member] for item in items * 3]


def _read_in_child(items, queue):
    queue.put([read_item(item, max_bytes=LIMIT) for item in items])


def test_open_zip_is_not_shared_with_forked_processes(tmp_path):
    members = {f"{i}.jpg": os.urandom(3000) for i in range(200)}
    items = find_items([make_zip(tmp_path / "z.zip", members)])
    read_item(items[0], max_bytes=LIMIT)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    expected = [members[item.member] for item in items]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        warnings.simplefilter("ignore", RuntimeWarning)
        child = context.Process(target=_read_in_child, args=(items, queue))
        child.start()
    assert [read_item(item, max_bytes=LIMIT) for item in items] == expected
    assert queue.get() == expected
    child.join()
