"""One file to read."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One file to read. All fields survive JSON, also where a name is no valid text.

    Attributes:
        name: unique, valid text, relative to the common base of the sources, with "/"; for members
            of archives such as "album.zip/2021/a.jpg".
        path: absolute local path or URI of the file, or of the archive that holds it.
        member: name inside the archive, as stored there; empty for plain files.
        offset: of a tar's member its first data byte (-1: it is stored sparsely and cannot be
            read), of a zip's member its header; -1 for plain files.
        size: bytes of an archive's member, uncompressed; -1 for plain files.
        problem: why it cannot be read, and the remedy; empty if that is not known yet.
    """

    name: str
    path: str
    member: str = ""
    offset: int = -1
    size: int = -1
    problem: str = ""
