"""Memory of `exif-jax prepare` and of its child processes."""

import threading
from pathlib import Path


class MemoryWatch(threading.Thread):
    """Watches the resident memory of a process and of those that it starts, while a `with` lasts.

    The kernel keeps each process's peak, so only what it grows by in the very last moment before
    its end is missed.

    Attributes:
        parent: peak of the process itself, MiB.
        workers: peak of every process that it started, by id, MiB.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.parent = 0.0
        self.workers: dict[int, float] = {}

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self.parent = max(self.parent, _peak(self._pid))
            command = _proc(self._pid, "cmdline")
            for child in _children(self._pid):
                # In this order: a child that is not started yet still has its parent's memory.
                if _proc(child, "cmdline") not in (b"", command):
                    self.workers[child] = max(self.workers.get(child, 0.0), _peak(child))


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _peak(pid: int) -> float:
    lines = dict(line.split(b":", 1) for line in _proc(pid, "status").splitlines() if b":" in line)
    return int(lines.get(b"VmHWM", b"0 kB").split()[0]) / 1024


def _children(pid: int) -> list[int]:
    """Processes that any thread of a process started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return []
    return [int(c) for task in tasks for c in _proc(pid, f"task/{task.name}/children").split()]
