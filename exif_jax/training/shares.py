"""Work divided over the processes of a run, and what each found, brought together.

Every process works on its share alone, at its own pace and on its own devices, and only then meets
the others: what differs in shape and duration from one item to the next (photos, files) needs no
common program. In one process nothing of this does anything. All processes call these functions in
the same order.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import load, save

from data_pipelines.disk import in_words
from data_pipelines.errors import UserError

_PATIENCE: Final = 7 * 24 * 3600  # seconds; a process that has died ends all others long before
_meetings = itertools.count()


def share(count: int, process: int | None = None, processes: int | None = None) -> range:
    """Positions, of `count`, of a process; this one by default.

    Every so manieth: what is alike lies side by side (a class, a test set, a folder) and takes
    about as long, so all have as much of each. No two differ by more than one position.
    """
    process, processes = _which(process, processes)
    return range(process, count, processes)


def section(count: int, process: int | None = None, processes: int | None = None) -> range:
    """Like `share`, but positions in one piece: those of all processes follow each other."""
    process, processes = _which(process, processes)
    return range(count * process // processes, count * (process + 1) // processes)


def _which(process: int | None, processes: int | None) -> tuple[int, int]:
    if process is None or processes is None:
        return jax.process_index(), jax.process_count()
    return process, processes


def in_order(positions: Sequence[int] | np.ndarray, *rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """What all processes have, in the order of its positions, on each of them.

    Args:
        positions: n, of this process alone.
        rows: arrays [n, ...], by position; where n is 0, their further shape is of no account.

    Returns:
        The positions of all, int [m], ascending, and the rows at them [m, ...].
    """
    own = {str(i): np.asarray(x) for i, x in enumerate((np.asarray(positions, int), *rows))}
    every = gather(own)
    parts = [part for part in every if len(part["0"])] or every[:1]
    joined = [np.concatenate([part[name] for part in parts]) for name in own]
    order = np.argsort(joined[0], kind="stable")
    return tuple(x[order] for x in joined)


def gather(arrays: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Arrays by name of every process, in order, bit by bit; shapes may differ."""
    own = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    if jax.process_count() == 1:
        return [own]
    # As bytes: JAX would make float32 of float64, and lengths differ.
    data = np.frombuffer(save(own), np.uint8)
    meet()
    sizes = multihost_utils.process_allgather(np.array(len(data)))
    every = multihost_utils.process_allgather(np.pad(data, (0, sizes.max() - len(data))))
    return [load(row[:size].tobytes()) for row, size in zip(every, sizes, strict=True)]


def meet() -> None:
    """Waits for all processes, as long as it takes: collectives wait for half a minute on CPU."""
    if jax.process_count() > 1:
        from jax._src import distributed  # as in `processes`

        client: Any = distributed.global_state.client
        client.wait_at_barrier(f"exif_jax/meeting/{next(_meetings)}", 1000 * _PATIENCE)


def first_alone(work: Callable[[], object]) -> None:
    """Lets the first process do something; the others wait until it is done.

    Raises:
        UserError: in every process, if the first one raises it or its disk fails.
    """
    message = ""
    if jax.process_index() == 0:
        try:
            work()
        except (UserError, OSError) as error:
            if jax.process_count() == 1:
                raise
            message = in_words(error) if isinstance(error, OSError) else str(error)
    raise_everywhere(message)


def raise_everywhere(message: str) -> None:
    """Raises a UserError in every process if the first one gives a message."""
    told = gather({"text": np.frombuffer(message.encode(errors="backslashreplace"), np.uint8)})
    if text := told[0]["text"].tobytes().decode():
        raise UserError(text)
