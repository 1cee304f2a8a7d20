"""Archives: tar and zip of members of any name, kind and size, with bytes changed."""

import io
import tarfile
import warnings
import zipfile
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.sources import find_files, read_item
from tests.fuzzing.target import Case, FoundError, Target, refused
from tests.fuzzing.texts import damaged, dumped, name

_MOST_BYTES = 2**20
_FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
_KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
_KINDS += (tarfile.GNUTYPE_SPARSE, tarfile.CHRTYPE, b"\0", b"Z")


def _member(rng: Generator) -> tuple[str, bytes]:
    path = b"/".join(name(rng, (b".jpg", b"")[rng.integers(2)]) for _ in range(rng.integers(1, 4)))
    return path.decode("utf-8", "surrogateescape"), rng.bytes(int(rng.choice([0, 1, 512, 3000])))


def _tar(rng: Generator) -> bytes:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=_FORMATS[rng.integers(3)], errors="surrogateescape"
    ) as archive:
        for _ in range(int(rng.integers(6))):
            member, data = _member(rng)
            info = tarfile.TarInfo(member)
            info.size = len(data)
            if rng.integers(4) == 0:
                info.type = _KINDS[int(rng.integers(len(_KINDS)))]
                info.linkname = "a.jpg"
            if rng.integers(8) == 0:
                info.pax_headers = {"GNU.sparse.major": "1", "size": "9" * 30, "path": "x.jpg"}
            try:
                archive.addfile(info, io.BytesIO(data))
            except (ValueError, UnicodeError):  # too long for the format
                continue
    return file.getvalue()


def _zip(rng: Generator) -> bytes:
    file = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings():  # of names that are there twice
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(file, "w") as archive:
            for _ in range(int(rng.integers(6))):
                member, data = _member(rng)
                info = zipfile.ZipInfo(member.encode("utf-8", "replace").decode())
                info.external_attr = int(rng.integers(2**16)) << 16 if rng.integers(2) else 0
                archive.writestr(info, data, compress_type=methods[int(rng.integers(4))])
    return file.getvalue()


def make(rng: Generator) -> Case:
    """An archive; the bytes of one in four members' headers are changed."""
    suffix, data = (".tar", _tar(rng)) if rng.integers(2) else (".zip", _zip(rng))
    for _ in range(int(rng.integers(3))):
        data = damaged(rng, data)
    if rng.integers(8) == 0:  # a tar's own checksum, and what stands for a zip, stay right
        suffix = (".tar", ".zip", ".tar.gz")[int(rng.integers(3))]
    return {f"album{suffix}": data}


def run(case: Case, folder: Path) -> str:
    """Lists it, given itself and in a folder, and reads every member."""
    for file, data in case.items():
        (folder / file).write_bytes(data)
    outcome = "refused"
    for source in (folder, *(folder / file for file in case)):
        try:
            found = find_files([source])
        except UserError as error:
            refused(error)
            continue
        names = [item.name for item in found.items]
        if len(set(names)) != len(names):
            raise FoundError(f"names: {names}")
        for item in found.items:
            dumped(item.name.encode().decode())
            try:
                if len(read_item(item, max_bytes=_MOST_BYTES)) > _MOST_BYTES:
                    raise FoundError("more bytes than allowed")
                outcome = "read"
            except ImageError as error:
                refused(error)
    return outcome


TARGET = Target(make, run, cases=500)
