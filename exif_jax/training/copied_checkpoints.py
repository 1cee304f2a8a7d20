"""Checkpoints in storage for which Orbax has no driver (s3://): written locally, then copied.

A copy counts once its last object is there, which Orbax itself writes last on gs://.
"""

from pathlib import Path
from typing import Final

from data_pipelines.object_storage import (
    download,
    remove_object,
    stored_files,
    upload,
    write_object,
)
from data_pipelines.storage import join

_COMPLETE: Final = "commit_success.txt"


class CopiedCheckpoints:
    """A local folder of checkpoints, and its copy in object storage. For one process."""

    def __init__(self, folder: Path, place: str) -> None:
        """Brings the complete checkpoints of the storage into the folder, and removes others there.

        Args:
            folder: local, which need not exist.
            place: URI of the folder of checkpoints.
        """
        self._folder, self._place = folder, place
        self._names: dict[str, set[str]] = {}  # of the files of each copied step
        for name in stored_files(place):
            self._names.setdefault(name.partition("/")[0], set()).add(name)
        for step, names in list(self._names.items()):
            if f"{step}/{_COMPLETE}" not in names:
                self._remove(step)
                continue
            for name in names - {f"{step}/{_COMPLETE}"}:
                download(join(place, name), folder / name)

    def update(self) -> None:
        """Copies what is new in the folder, and removes from the storage what is gone from it."""
        steps = {path.name: path for path in self._folder.iterdir() if path.name.isdigit()}
        for step, path in steps.items():
            if step not in self._names:
                names = {str(x.relative_to(self._folder)) for x in path.rglob("*") if x.is_file()}
                for name in sorted(names):
                    upload(self._folder / name, join(self._place, name))
                marker = f"{step}/{_COMPLETE}"
                write_object(join(self._place, marker), b"")
                self._names[step] = names | {marker}
        for step in self._names.keys() - steps.keys():
            self._remove(step)

    def _remove(self, step: str) -> None:
        """Of a step first what makes it complete, so that a half-removed one never counts."""
        for name in sorted(self._names.pop(step), key=lambda name: not name.endswith(_COMPLETE)):
            remove_object(join(self._place, name))
