"""The child process that reads photos: `python -m data_pipelines.prepare.worker`.

It reads requests from its standard input, one JSON object a line: first {"options": ...}, then
{"item": ..., "sidecar": ...}. It answers each with one line of JSON, {"photo": ...} or
{"reject": ...}, and the bytes of the photo's windows. Started by `isolation.GuardedReader`, which
ends it by closing its input or by killing it.
"""

import contextlib
import json
import os
import signal
import sys

from data_pipelines.images import ImageError
from data_pipelines.items import Item
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, read_photo, rejected, to_row
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.sources import read_item

READY = b"ready\n"


def read_one(item: Item, sidecar: Entry | None, options: Options) -> PreparedPhoto | Reject:
    """Reads one file of any source; never raises on a bad one."""
    try:
        data = read_item(item, max_bytes=options.max_bytes)
    except ImageError as error:
        return rejected(error)
    except MemoryError:
        return Reject("out_of_memory", "the file does not fit into memory")
    return read_photo(data, options, name=item.name, sidecar=sidecar)


def _limit_memory(mebibytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        limit = mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answers requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Libraries that print must not get in between: the pipe is kept for answers alone.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    options = Options.from_json(json.loads(requests.readline())["options"])
    _limit_memory(options.memory_per_file)
    output.write(READY)
    output.flush()
    for line in requests:
        request = json.loads(line)
        sidecar = request["sidecar"]
        result = read_one(Item(**request["item"]), sidecar and Entry(**sidecar), options)
        output.write(json.dumps(to_row(result)).encode() + b"\n")
        output.writelines(result.windows if isinstance(result, PreparedPhoto) else ())
        output.flush()


if __name__ == "__main__":
    main()
