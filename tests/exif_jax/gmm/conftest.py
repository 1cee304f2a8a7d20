"""Data and helpers shared by the tests of the mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as SklearnMixture

from exif_jax import gmm
from exif_jax.training.mapping import data_mesh


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def one_device():
    return data_mesh(jax.devices()[:1])


@pytest.fixture(scope="session")
def x():
    """161 rows of 4 columns, three overlapping clusters; does not divide over 8 devices."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 4, 4))
    parts = [
        rng.normal(size=(n, 4)) @ m + 2 * i
        for i, (n, m) in enumerate(zip((71, 52, 38), mixing, strict=True))
    ]
    return np.concatenate(parts)


@pytest.fixture
def rows(x):
    """128 rows and a mask that leaves some out."""
    return jnp.asarray(x[:128]), jnp.asarray(np.arange(128) % 5 > 0, float)


@pytest.fixture(scope="session")
def start(x):
    """Responsibilities to start from, random."""
    return np.eye(3)[np.random.default_rng(1).integers(3, size=len(x))]


@pytest.fixture(scope="session")
def centres(x):
    """Means to start from."""
    return x[[3, 80, 150]]


@pytest.fixture(scope="session")
def fit(one_device):
    """`gmm.fit` on one device, which compiles sooner than eight."""

    def run(x, num_components=3, kind="full", *, key=0, **options):
        options = {"mesh": one_device, "rank": 2 if kind == "low_rank" else 0} | options
        return gmm.fit(jax.random.key(key), x, num_components, kind, **options)

    return run


@pytest.fixture(scope="session")
def fit_stream(one_device):
    """`gmm.fit` of a stream on one device, 64 rows at once."""

    def run(chunks, num_components=3, kind="full", *, key=0, block_rows=64, **options):
        options = {"mesh": one_device, "rank": 2 if kind == "low_rank" else 0} | options
        stream = gmm.Stream(chunks, block_rows)
        return gmm.fit(jax.random.key(key), stream, num_components, kind, **options)

    return run


@pytest.fixture(scope="session")
def random_mixture():
    """Some mixture of a kind, 3 components in 4 columns, float64."""

    def make(kind, seed=0, spread=2.0):
        rng = np.random.default_rng(seed)
        factors = np.triu(rng.normal(size=(3, 4, 4)) * 0.4, 1) + np.eye(4) * rng.uniform(
            0.5, 2, size=(3, 1, 4)
        )
        arrays = {
            "full": {"precisions_cholesky": factors},
            "tied": {"precisions_cholesky": factors[0]},
            "diag": {"precisions_cholesky": rng.uniform(0.5, 2, size=(3, 4))},
            "spherical": {"precisions_cholesky": rng.uniform(0.5, 2, size=3)},
            "low_rank": {
                "directions": np.linalg.qr(rng.normal(size=(3, 4, 2)))[0],
                "variances": rng.uniform(1, 4, size=(3, 2)),
                "noise": rng.uniform(0.1, 0.5, size=3),
            },
        }[kind]
        arrays["weights"] = np.array([0.5, 0.3, 0.2])
        arrays["means"] = spread * rng.normal(size=(3, 4))
        return gmm.GaussianMixture.from_arrays(arrays, kind)

    return make


@pytest.fixture(scope="session")
def dense():
    """Covariances as K matrices, from any of scikit-learn's shapes."""

    def expand(mixture):
        with jax.enable_x64(True):
            covariances = np.asarray(mixture.covariances)
        components, columns = mixture.means.shape
        match mixture.structure.covariance_type:
            case "tied":
                return np.stack([covariances] * components)
            case "diag":
                return np.stack([np.diag(row) for row in covariances])
            case "spherical":
                return covariances[:, None, None] * np.eye(columns)
        return covariances

    return expand


class _FromResponsibilities(SklearnMixture):
    """scikit-learn's mixture from given responsibilities."""

    def __init__(self, start, **options):
        super().__init__(start.shape[1], **options)
        self.start = start

    def _initialize_parameters(self, X, *_, **__):
        self._initialize(X, self.start)


@pytest.fixture(scope="session")
def scikit_learn():
    """Fits scikit-learn's mixture from given responsibilities."""

    def run(x, start, kind="full", **options):
        return _FromResponsibilities(start, covariance_type=kind, **options).fit(x)

    return run


@pytest.fixture
def stop_after():
    """An observer that raises `KeyboardInterrupt` after so many iterations."""

    def make(iterations):
        def observe(done, *_):
            if done >= iterations:
                raise KeyboardInterrupt

        return observe

    return make
