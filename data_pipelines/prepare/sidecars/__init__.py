"""EXIF metadata from files beside the photos, for photos that were stripped of theirs.

`load_sidecars` reads what exiftool, the Flickr API, YFCC100M and the released SDAIE labels give,
finds the photo of each entry, and returns raw values by EXIF name as if a photo held them.
"""

from data_pipelines.prepare.sidecars.entries import Entry, SidecarFile, Sidecars
from data_pipelines.prepare.sidecars.load import load_sidecars

__all__ = ["Entry", "SidecarFile", "Sidecars", "load_sidecars"]
