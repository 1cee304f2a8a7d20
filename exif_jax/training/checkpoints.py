"""Training checkpoints by Orbax: the state alone, as batches depend on its step only."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from data_pipelines.disk import naming
from data_pipelines.errors import UserError
from data_pipelines.mirrors import place_of
from data_pipelines.object_storage import explained
from data_pipelines.storage import describe, is_uri, set_up_clients
from exif_jax.training.copied_checkpoints import CopiedCheckpoints

_CLIENTS = ("aiohttp", "gcsfs", "google", "requests")


class Checkpoints:
    """Checkpoints of one run; a half-written one, after a crash, is never seen.

    Of a run in object storage they go straight there: to gs:// by Orbax's own driver and while
    training goes on; to s3://, for which it has none, as a copy that training waits for.

    All methods raise an OSError that names the directory if the disk fails, maybe only after the
    save that failed, as saving goes on while training does.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Opens the directory, which need not exist; keeps the last `keep` checkpoints.

        Raises:
            UserError: one of them is damaged.
        """
        place = place_of(directory)
        self._copied: CopiedCheckpoints | None = None
        self._directory: Path | epath.Path = directory.absolute()
        if place.startswith("gs://"):
            set_up_clients()
            self._directory = epath.Path(place)
            with self._naming():
                _ask(place)
        elif is_uri(place):
            self._copied = CopiedCheckpoints(directory, place)
        remedy = (
            "if the run was copied, copy it anew, or delete the newest to continue from the "
            "one before"
        )
        with self._naming(), _whole(f"{self._directory}: one of these checkpoints", remedy):
            self._manager = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, cleanup_tmp_directories=True, create=True
                ),
            )

    def _naming(self) -> contextlib.AbstractContextManager[None]:
        if is_uri(self._directory):
            return _explained(str(self._directory))
        return naming(self._directory, temporary=self._directory)

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, step: int, state: Any) -> None:
        """Saves a state (a dataclass of pytrees); a field of None is left out.

        Returns when the arrays are copied from the devices.
        """
        args = ocp.args.Composite(state=ocp.args.StandardSave(_present(state)))
        with self._naming():
            self._manager.save(step, args=args)
        if self._copied is not None:
            self.wait()
            self._copied.update()

    def restore(self, step: int, state: Any) -> Any:
        """The saved state, placed like `state`, on whatever devices it was saved.

        Raises:
            UserError: it is of another model, or parts of it are missing or wrong, as in a run that
                was copied in part.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(_present(state)))
        remedy = (
            "it is of another model (give the configuration and data of its run), or incomplete "
            "(if the run was copied, copy it anew, or delete this folder to continue from the "
            "checkpoint before)"
        )
        with _whole(f"{self._directory / str(step)}: this checkpoint", remedy):
            restored = self._manager.restore(step, args=args)
        return dataclasses.replace(state, **restored["state"])

    def wait(self) -> None:
        """Waits until everything is on disk."""
        with self._naming():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is on disk."""
        self.wait()
        with self._naming():
            self._manager.close()


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turns what the storage fails with into one `UserError`.

    Other errors stay what they are: where another process died, this one hears of it so.
    """
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or library in _CLIENTS or "gs://" in str(error):
            with explained(place, "written"):
                raise
        raise


def _ask(place: str) -> None:
    """Asks for one object, as TensorStore does with credentials of its own, but not for minutes."""
    bucket, _, name = place.removeprefix("gs://").partition("/")
    spec = {
        "driver": "gcs",
        "bucket": bucket,
        "path": name,
        "context": {"gcs_request_retries": {"max_retries": 3}},
    }
    ts.KvStore.open(spec).result().read("/none").result()


def _present(state: Any) -> dict[str, Any]:
    """What a state holds by name; fields that a version did not know, or that are None, are not."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in fields.items() if value is not None}


@contextlib.contextmanager
def _whole(what: str, remedy: str) -> Iterator[None]:
    """Turns what Orbax raises of damaged files into one `UserError`."""
    try:
        yield
    except Exception as error:
        # Of an array that it cannot decode, Orbax raises a bare Exception, which tells no reason.
        bare = type(error) is Exception
        if not bare and not isinstance(
            error, AttributeError | LookupError | TypeError | ValueError
        ):
            raise
        cause = error.__cause__ if bare and isinstance(error.__cause__, Exception) else error
        raise UserError(f"{what} cannot be restored ({describe(cause)}); {remedy}") from error
