"""The output directory while it is unfinished, local or in object storage (gs://).

    OUT/unfinished/command.json          what was asked for, to compare with a later command
    OUT/unfinished/parts/000012.*        todo: files to read; windows, rows: what came of them
    OUT/unfinished/shards/000003.*       todo: what a shard's records say, and where its windows
                                         are; size, columns: it is there, whole
    OUT/exif_photos-*                    finished shards
    OUT/prepare.json                     written last: the output is complete

Every file appears whole or not at all, so whatever is there after an interruption can be used.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json
from data_pipelines.records import PREPARE_FILE, UNFINISHED
from data_pipelines.storage import is_too_long, is_uri

_COMMAND_FILE: Final = "command.json"
_UNDECIDED: Final = "undecided_options"
_REMEDY: Final = "give another --out, or delete it first"


class Workspace:
    """Places in an output directory.

    Attributes:
        out: the output directory.
        parts: directory of parts.
        shards: directory of what is known of shards.
    """

    def __init__(self, out: epath.Path) -> None:
        self.out = out
        self._unfinished = out / UNFINISHED
        self.parts = self._unfinished / "parts"
        self.shards = self._unfinished / "shards"

    def is_finished(self, command: Mapping[str, Any]) -> bool:
        """Returns whether the same command, plain JSON values, finished before.

        Raises:
            UserError: the directory holds something else; the message says what differs. Or no
                disk can hold its name.
        """
        if is_too_long(str(self.out)):
            raise UserError(f"{str(self.out)[:200]}...: File name too long; give another --out")
        prepared, started = self.out / PREPARE_FILE, self._unfinished / _COMMAND_FILE
        if prepared.exists():
            _compare(self.out, read_json(prepared), command)
            self.leave()  # a process killed at the very end leaves it behind
            return True
        if started.exists():
            _compare(self.out, read_json(started), command)
        elif self.out.exists() and (
            # What a command that did not start leaves is a lock.
            not self.out.is_dir() or any(p.name != UNFINISHED for p in self.out.iterdir())
        ):
            raise UserError(
                f"{self.out}: exists, and is not output of `exif-jax prepare`; {_REMEDY}"
            )
        return False

    def enter(self, command: Mapping[str, Any]) -> None:
        """Makes the directories, or tidies what the same command left unfinished."""
        self.parts.mkdir(parents=True, exist_ok=True)
        self.shards.mkdir(parents=True, exist_ok=True)
        write_json(self._unfinished / _COMMAND_FILE, dict(command))
        if not is_uri(self.out):  # what a killed process was about to write
            for folder in (self.out, self.parts, self.shards):
                for leftover in Path(folder).glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)

    def allow_other(self, options: Sequence[str]) -> None:
        """Lets the next command have other values of some options, as nothing depends on them."""
        started = self._unfinished / _COMMAND_FILE
        write_json(started, {**read_json(started), _UNDECIDED: list(options)})

    def leave(self) -> None:
        """Removes everything that was needed on the way only."""
        if self._unfinished.exists():
            self._unfinished.rmtree()

    def discard(self) -> None:
        """Removes the directory, in which nothing was made."""
        self.leave()
        if self.out.exists() and not any(self.out.iterdir()):
            self.out.rmdir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process on this machine from writing the same output.

        Raises:
            UserError: there is one.
        """
        if is_uri(self.out):
            yield
            return
        import fcntl  # not on Windows, where ArrayRecord is not either

        self._unfinished.mkdir(parents=True, exist_ok=True)
        with (Path(self._unfinished) / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"{self.out}: another `exif-jax prepare` is writing it; wait until it ends"
                ) from error
            yield


def _compare(out: epath.Path, found: object, command: Mapping[str, Any]) -> None:
    """Raises UserError if `found`, read from an output, is of another command."""
    old = found if isinstance(found, dict) else {}
    if old == command:
        return
    undecided = old.get(_UNDECIDED, ())
    options, now = old.get("options", {}), command["options"]
    differing = [
        f"{name} was {options.get(name)!r}, now {now.get(name)!r}"
        for name in {**now, **options}
        if options.get(name) != now.get(name) and name not in undecided
    ]
    digests = {"sources_sha256": "the photo directories", "sidecars_sha256": "the sidecars"}
    differing += [f"{what} differ" for key, what in digests.items() if old.get(key) != command[key]]
    if not differing and old.get("files_sha256") != command["files_sha256"]:
        differing = [
            f"the photos changed: {old.get('num_files')} files then, {command['num_files']} now"
        ]
    if not differing and old.get("schema_version") != command["schema_version"]:
        differing = ["another version of the program made them"]
    if differing:
        raise UserError(
            f"{out}: holds records made differently ({'; '.join(differing)}); {_REMEDY}"
        )
