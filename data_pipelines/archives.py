"""Archives (.tar, .zip): listing the images in them, and reading one.

They are read where they are, never unpacked, and archives within archives are not looked into.
"""

import contextlib
import functools
import os
import re
import stat
import tarfile
import weakref
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import IO, Final

from data_pipelines.images import ImageError, is_image
from data_pipelines.items import Item
from data_pipelines.storage import (
    NOT_ENTERED,
    cannot_read,
    describe,
    kind_of,
    open_file,
    suffix_of,
    valid_text,
)

_COMPRESSED: Final = (
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".tar.lzma", ".tar.z"),
    *(".tgz", ".tbz", ".tbz2", ".txz", ".tzst"),
)
_ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def is_archive(path: str) -> bool:
    """Whether a file is an archive by its name; also compressed tars, which are then refused."""
    return path.lower().endswith((".tar", ".zip", *_COMPRESSED))


def list_archive(
    path: str, name: str, extensions: frozenset[str]
) -> tuple[list[Item], Counter[str]]:
    """Lists the images, by their extensions, in an archive; its name begins theirs.

    Returns:
        Them, and how many of each kind the other members are.

    Raises:
        ImageError: "unreadable": it is a compressed tar, cannot be read, is cut short, damaged or
            no archive. The message has the remedy.
    """
    if path.lower().endswith(_COMPRESSED):
        raise ImageError(
            "unreadable",
            "a compressed tar cannot be read at random; decompress it first "
            "(gunzip, bunzip2, unxz, unzstd) and give the .tar, or leave it out",
        )
    _open_zip.cache_clear()  # the archive may have been replaced since
    kind = suffix_of(path)[1:]
    items: list[Item] = []
    passed_over: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path))
        except Exception as error:  # every remote storage has its own errors
            raise ImageError("unreadable", cannot_read(error)) from error
        try:
            for member, offset, size in _tar_members(file) if kind == "tar" else _zip_members(file):
                # The name is only shown: nothing is unpacked, so ".." can do no harm.
                parts = [p for p in re.split(r"[/\\]", member) if p not in ("", ".", "..")]
                last = parts[-1] if parts else ""
                if NOT_ENTERED.isdisjoint(parts) and is_image(last, extensions):
                    shown = valid_text("/".join([name, *parts]))
                    items.append(Item(shown, path, member, offset, size))
                else:
                    passed_over[kind_of(last)] += 1
        except Exception as error:  # damaged archives raise almost anything
            raise ImageError(
                "unreadable",
                f"no {kind} archive, damaged or cut short: {len(items) + passed_over.total()} "
                f"members were readable, then {describe(error)}; copy it again",
            ) from error
    return items, passed_over


def read_member(item: Item) -> bytes:
    """Reads one member of an archive; never much more than its `size`.

    Raises:
        Exception: the archive is damaged, was changed or cannot be read.
    """
    read = _read_zip_member if item.path.lower().endswith(".zip") else _read_tar_member
    data = read(item)
    if len(data) != item.size:
        raise ImageError("unreadable", f"{len(data):,} of {item.size:,} bytes are there")
    return data


def _tar_members(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yields name, offset of the data (-1 if sparse) and size of every regular member.

    Raises:
        Exception: the archive is not whole.
    """
    file.seek(0, os.SEEK_END)
    total = file.tell()
    file.seek(0)
    end = 0
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # would fill the memory
            if member.isreg() and not 0 <= member.size <= total - member.offset_data:
                raise tarfile.ReadError("unexpected end of data")
            if archive.offset <= end:
                raise tarfile.ReadError("a header that leads backwards")
            end = archive.offset
            if member.isreg():
                offset = -1 if member.issparse() else member.offset_data
                yield member.name, offset, member.size
        # tarfile takes a bad header, and no header, for the end; the true end is a block of zeros.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("a bad header, or the mark of the archive's end is missing")


def _zip_members(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yields name, offset of the header and size of every regular member."""
    with zipfile.ZipFile(file) as archive:
        for (offset, name), member in _zip_index(archive).items():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if not made on Unix
            if not member.is_dir() and kind in (0, stat.S_IFREG):
                yield name, offset, member.file_size


def _zip_index(archive: zipfile.ZipFile) -> dict[tuple[int, str], zipfile.ZipInfo]:
    return {(member.header_offset, member.filename): member for member in archive.filelist}


@functools.lru_cache(maxsize=4)
def _open_zip(
    path: str, process: int
) -> tuple[zipfile.ZipFile, dict[tuple[int, str], zipfile.ZipInfo]]:
    """Opens an archive for reading by several threads; it is closed when no longer used.

    It is opened once for each process id: forked ones would move each other's position in a file.
    """
    with contextlib.ExitStack() as stack:
        archive = zipfile.ZipFile(stack.enter_context(open_file(path)))
        index = _zip_index(archive)
        weakref.finalize(archive, stack.pop_all().close)
    return archive, index


def _read_zip_member(item: Item) -> bytes:
    archive, index = _open_zip(item.path, os.getpid())
    member = index.get((item.offset, item.member))
    if member is None or member.file_size != item.size:
        raise ImageError("unreadable", "the archive was changed")
    if member.flag_bits & 0x1:
        raise ImageError("unreadable", "encrypted")
    if member.compress_type not in _ZIP_METHODS:  # zipfile does not bound the output of others
        method = f"compression method {member.compress_type}"
        raise ImageError("unreadable", f"{method} is not supported; zip it by deflate")
    with archive.open(member) as file:
        return file.read(item.size + 1)  # one more, so that the checksum is compared


def _read_tar_member(item: Item) -> bytes:
    if item.offset < 0:
        raise ImageError("unreadable", "stored as a sparse file")
    with open_file(item.path) as file:
        file.seek(item.offset)
        return file.read(item.size)
