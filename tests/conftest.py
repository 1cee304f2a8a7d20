"""Shared fixtures: eight CPU devices, a compilation cache, tiny simulated data, real data."""

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

# Before JAX starts: eight forced CPU devices, so that "one device equals many" is real.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")
# Nearly all the time of tests is compilation: programs are less optimised, also in the processes
# that tests start. `optimised` is for tests whose point is numbers; `make test-short` sets 0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import jax
import pytest

from data_pipelines import object_storage
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import open_records
from data_pipelines.simulated import make_dataset
from exif_jax.config import PretextConfig, PublishedEncoder
from exif_jax.models.trained import save_extractor
from exif_jax.objectives import build_objectives
from exif_jax.stages.pretext import init_params

ROOT = Path(__file__).resolve().parents[1]

# The first example of a property compiles, so times say nothing.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs of whole commands first, so that processes which share the tests end together."""
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed may be no valid text, which processes cannot send to each other."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="module", autouse=True)
def _release_logs() -> Iterator[None]:
    """What runs and commands log to is gone with their tests."""
    yield
    for name in ("exif_jax", "data_pipelines"):
        package = logging.getLogger(name)
        package.handlers.clear()
        package.propagate = True
        package.setLevel(logging.NOTSET)


def _shared(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the optional folder {name!r} beside the project is absent")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _release_compiled_programs():
    """A thousand compiled programs in one process exhaust its memory maps; the cache has them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def optimised():
    """Programs of this module are compiled as users compile them."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real photographs and generated images; not part of the project."""
    return _shared("data")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder with files that were once handled wrongly."""
    return _shared("cases")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder with the reference arrays of the published model."""
    return _shared("parity")


@pytest.fixture(scope="session")
def _google_storage() -> Iterator[Any]:
    from tests.storage_emulators import GoogleStorage  # only where it is needed

    storage = GoogleStorage()
    yield storage
    storage.close()


@pytest.fixture(scope="module")
def google_storage(_google_storage: Any) -> Iterator[Any]:
    """gs://bucket, on the loopback; the session has one, so each module uses its own names."""
    from tests.storage_emulators import used

    with used(_google_storage):
        yield _google_storage


@pytest.fixture(scope="session")
def _amazon_storage() -> Iterator[Any]:
    from tests.storage_emulators import AmazonStorage, used

    storage = AmazonStorage()
    with used(storage):
        object_storage.filesystem(storage.uri).mkdir("bucket")
    yield storage
    storage.close()


@pytest.fixture(scope="module")
def amazon_storage(_amazon_storage: Any) -> Iterator[Any]:
    """s3://bucket, on the loopback."""
    from tests.storage_emulators import used

    with used(_amazon_storage):
        yield _amazon_storage


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few simulated photographs with EXIF in photos/, labelled images in labelled/train."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    make_dataset(folder, photos=24, labelled=6, test=0)
    return folder


@pytest.fixture(scope="session")
def records(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated photographs, prepared: of 24 windows about a quarter is held out."""
    out = tmp_path_factory.mktemp("prepared") / "records"
    prepare([simulated / "photos"], out, Options(validation_fraction=0.25), workers=1)
    return out


@pytest.fixture(scope="session")
def tiny_extractor(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an untrained extractor with 10 features."""
    model = PublishedEncoder(
        width=4,
        stage_depths=(1, 1),
        mixer_blocks=1,
        mixer_heads=2,
        mixer_head_dim=4,
        mixer_hidden=8,
    )
    targets = open_records(records).targets
    objectives = build_objectives(targets, PretextConfig())
    params = init_params(model.build(), objectives, jax.random.key(0))
    out = tmp_path_factory.mktemp("pretext") / "extractor"
    save_extractor(out, params, model, targets, {"kind": "pretext"})
    return out
