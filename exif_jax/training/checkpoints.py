"""Training checkpoints: state and data position together, by Orbax."""

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from grain import checkpoint as grain_checkpoint


class Checkpoints:
    """Checkpoints of one run; a half-written one, after a crash, is never seen."""

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Opens the directory, which need not exist; keeps the last `keep` checkpoints."""
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, create=True
            ),
        )

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, step: int, state: Any, data: Any) -> None:
        """Saves a pytree and a Grain iterator; returns when the arrays are copied from devices."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), data=grain_checkpoint.CheckpointSave(data)
            ),
        )

    def restore(self, step: int, state: Any, data: Any) -> Any:
        """The saved pytree, placed like `state`; the iterator is set to its saved position."""
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(state), data=grain_checkpoint.CheckpointRestore(data)
            ),
        )
        return restored["state"]

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
