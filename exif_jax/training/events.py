"""A run's numbers for TensorBoard, written without a thread.

The thread of tensorboardX dies with a stack trace when the disk is full, and then training waits
for it forever.
"""

import os
import socket
import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from data_pipelines.disk import naming
from data_pipelines.files import append_bytes


class Events:
    """A file of events, `events.out.tfevents.*`, in a folder that is made if need be.

    Whatever is written raises an OSError that names the file if the disk fails.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begins it; TensorBoard then drops what other files there say of steps from the first."""
        now = int(time.time())
        self._path = folder / f"events.out.tfevents.{now}.{socket.gethostname()}.{os.getpid()}"
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Brings everything written so far to the disk."""
        with naming(self._path), self._path.open("rb") as file:
            os.fsync(file.fileno())

    def _write(self, event: Event) -> None:
        """Appends a record: length, its checksum, content, its checksum."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        parts = (struct.pack("<Q", len(content)), content)
        record = b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in parts)
        append_bytes(self._path, record)
