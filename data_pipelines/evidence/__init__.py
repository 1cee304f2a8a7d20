"""What a file's metadata says of its picture's origin; never part of a score.

    item.py             one piece of evidence
    embedded.py         a file -> the texts, XMP packet and C2PA manifest in it, within limits
      containers.py       the pieces of JPEG, PNG, WebP and ISO (AVIF, HEIC) files
      texts.py            texts out of those pieces
      xmp.py              properties of an XMP packet
    camera.py           does EXIF name a camera, and does it fit the picture?
    generators.py       texts that name an image generator
    source_type.py      IPTC DigitalSourceType
    credentials.py      a C2PA manifest: there or not, or verified by c2pa-python
    read.py             all of them

Everything here can be forged and removed by anyone with a file in hand, so nothing is trusted, and
what is absent proves nothing. Texts are searched, never parsed as a program's data or executed.
"""

from data_pipelines.evidence.item import Evidence
from data_pipelines.evidence.read import read_evidence

__all__ = ["Evidence", "read_evidence"]
