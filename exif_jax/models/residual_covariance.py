"""Residual covariances: how SRM residuals, and their magnitudes, vary together, in logarithms.

The zero-layer relative of the published encoder: the same filters, covariance pooling and matrix
function, without a learned parameter before them. `encode` and `pool` are fixed, and linear up to
the logarithm, so an image is described exactly by the mean of its patches' moments; only what
follows, `learn`, has parameters.

Shape suffixes as in `exif_jax.models.extractor`; C = 57 residual maps, S numbers of a description.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from typing import Final

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax import Array, lax

from data_pipelines.errors import UserError
from exif_jax.config import ResidualCovarianceEncoder, check_choice, check_whole
from exif_jax.models.extractor import FixedExtractor, Intermediates, Params
from exif_jax.models.patches import STD
from exif_jax.models.perceptron import Perceptron
from exif_jax.models.srm import srm_kernels

# Of residual variance in units of the pixels' range; rounding to 8 bits alone gives 1.3e-6.
REGULARISATION = 1e-7
# Correlation of neighbouring pixels in the image model that orders the filters.
_NEIGHBOURS = 0.95
OUTLIER = 4.0  # deviations at which standardised descriptions are cut off
# Power of a principal component's variance by which it is divided: between all and none (1/2, 0).
_WHITENING = 0.25
# By scale: side of the squares over which magnitudes are averaged; pixels of them, the middle one
# or all, whose energies are taken.
_SQUARES = {1: 3, 2: 4}
_SAMPLED = {1: slice(4, 5), 2: slice(None)}


@cache
def residual_basis() -> np.ndarray:
    """An orthonormal basis of what the thirty SRM kernels span, from smooth to fine.

    The filters are the principal components, within the span, of a separable first-order
    autoregressive image, each even or odd in rows and in columns. Responses of natural images to
    them are nearly uncorrelated, and small where small, so float32 keeps the relative accuracy of
    small eigenvalues of their covariance. Flips and transposition of the image permute the
    filters up to sign.

    Returns:
        float64 [5, 5, 19]; read-only.
    """
    kernels = srm_kernels().reshape(25, -1)
    left, singular, _ = np.linalg.svd(kernels)
    span = left[:, : int((singular > 1e-9 * singular[0]).sum())]
    inside = span @ span.T
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    model = np.kron(_NEIGHBOURS**steps, _NEIGHBOURS**steps)
    flip = np.eye(5)[::-1]
    filters = []
    for rows in (1, -1):
        for columns in (1, -1):
            # Within a parity no two eigenvalues agree, so eigenvectors are unique but for sign.
            parity = np.kron(np.eye(5) + rows * flip, np.eye(5) + columns * flip) / 4
            values, vectors = np.linalg.eigh(parity @ inside @ model @ inside @ parity)
            filters += [(v, x) for v, x in zip(values, vectors.T, strict=True) if v > 1e-9]
    # Transposed twins have equal eigenvalues: rounding must not decide their order.
    filters.sort(key=lambda pair: (-round(pair[0], 9), *np.round(np.abs(pair[1]), 6)))
    basis = np.stack([x * np.sign(x[np.abs(x) > 1e-6][0]) for _, x in filters], axis=-1)
    basis.flags.writeable = False
    return basis.reshape(5, 5, -1)


# Luminance and two colour differences, orthonormal, in rows.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def residual_squares(x_MHWC: Array, side: int) -> Array:
    """Residuals of normalised patches, in units of the pixel range, by squares of pixels.

    The filters of `residual_basis` on each opponent colour plane, without padding. One convolution
    gives a whole square: of one plane's few products a pixel CPUs would make little speed.

    Args:
        x_MHWC: [M, H, W, 3]; H - 4 and W - 4 are multiples of `side`.
        side: of the squares.

    Returns:
        [M, 3, squares, side * side, C / 3]; pixels of a square row by row.
    """
    basis = residual_basis()
    kernel = np.zeros((4 + side, 4 + side, side, side, basis.shape[-1]))
    for row, column in np.ndindex(side, side):
        kernel[row : row + 5, column : column + 5, row, column] = basis
    red, green, blue = jnp.unstack(x_MHWC, axis=-1)
    colours = (OPPONENT * np.array(STD)).tolist()
    planes = jnp.stack([r * red + g * green + b * blue for r, g, b in colours], axis=1)
    patches, _, height, width = planes.shape
    squares = lax.conv_general_dilated(
        planes.reshape(-1, height, width, 1),
        jnp.asarray(kernel.reshape(4 + side, 4 + side, 1, -1), x_MHWC.dtype),
        window_strides=(side, side),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return squares.reshape(patches, 3, -1, side * side, basis.shape[-1])


def _reduced(x: Array, side: int) -> Array:
    """Means over squares of side x side pixels of [M, H, W, C], H and W multiples of it."""
    rows, columns = x.shape[1] // side, x.shape[2] // side
    return x.reshape(x.shape[0], rows, side, columns, side, x.shape[3]).mean(axis=(2, 4))


def _magnitude(squares: Array, scale: int) -> Array:
    """Magnitudes averaged over small squares: the local level of every residual."""
    pixels = jnp.unstack(jnp.abs(squares), axis=3)  # on CPU a mean takes twice as long
    return (reduce(jnp.add, pixels) / len(pixels))[:, :, :, None]


def _energy(squares: Array, scale: int) -> Array:
    """Squares, scaled to the order of magnitudes and cut off at strong edges.

    A sample of them will do at full size: by a step that meets every phase of a colour filter
    array and of JPEG's blocks.
    """
    return 5 * jnp.minimum(jnp.square(squares[:, :, :, _SAMPLED[scale]]), 0.04)


# What is taken of the residuals by squares, [M, 3, squares, pixels, C / 3], of a scale, in the
# order in which it is described.
STATISTICS: Final[dict[str, Callable[[Array, int], Array]]] = {
    "residual": lambda squares, scale: squares,
    "magnitude": _magnitude,
    "energy": _energy,
}


def moments(x_MHWC: Array, statistics: Sequence[str], scales: Sequence[int]) -> Array:
    """Moments of the residuals of patches; those of equally large patches average.

    Args:
        x_MHWC: [M, 64, 64, 3] normalised.
        statistics: names in `STATISTICS`.
        scales: factors by which patches are reduced (by averaging) before they are filtered.

    Returns:
        [M, len(scales) * len(statistics) * (C * (C + 1) / 2 + C)]: for each scale and statistic
        the mean products of two maps, row-major upper triangle, then the mean of each map; of
        `residual`, whose mean says nothing, that of its fourth power.
    """
    parts = []
    for scale in scales:
        squares = residual_squares(_reduced(x_MHWC, scale), _SQUARES[scale])
        for name in statistics:
            values = jnp.moveaxis(STATISTICS[name](squares, scale), 1, 3)
            x_MPC = values.reshape(len(x_MHWC), -1, 3 * values.shape[-1])
            positions, channels = x_MPC.shape[1:]
            product = jnp.einsum("mpc,mpd->mcd", x_MPC, x_MPC, precision="highest") / positions
            first = jnp.square(jnp.square(x_MPC)) if name == "residual" else x_MPC
            parts += [product[:, *np.triu_indices(channels)], first.mean(axis=1)]
    return jnp.concatenate(parts, axis=-1)


_Eigh = Callable[[Array], Sequence[Array]]


def _eigh_in_turn(a: Array) -> Sequence[Array]:
    """`jnp.linalg.eigh` of matrices [..., C, C], one after the other.

    For CPU, where that of several at once spreads them over XLA's threads and waits on one of these
    for the others: as many such calls as there are threads, from several devices or within one
    program, wait for ever.
    """
    size = a.shape[-1]
    values, vectors = lax.map(jnp.linalg.eigh, a.reshape(-1, size, size))
    return values.reshape(a.shape[:-1]), vectors.reshape(a.shape)


def _precisely(function: Callable[..., Array], *arrays: Array) -> Array:
    """In float64 where the platform has it, in the precision of the arrays on TPUs.

    Eigenvalues of residual covariances span six orders of magnitude, as does float32.

    Args:
        function: of a function for eigenvalues and eigenvectors, then the arrays.
        arrays: of one type.
    """

    def double(eigh: _Eigh, *xs: Array) -> Array:
        with jax.enable_x64():
            return function(eigh, *(x.astype(jnp.float64) for x in xs)).astype(xs[0].dtype)

    on_gpu = partial(double, jnp.linalg.eigh)
    result: Array = lax.platform_dependent(
        *arrays,
        cpu=partial(double, _eigh_in_turn),
        cuda=on_gpu,
        rocm=on_gpu,
        default=partial(function, jnp.linalg.eigh),
    )
    return result


def _product(*factors: Array) -> Array:
    return reduce(partial(jnp.matmul, precision="highest"), factors)


@jax.custom_vjp
def matrix_logarithm(a: Array) -> Array:
    """Logarithm of symmetric positive definite matrices [..., C, C].

    Its derivative is finite for repeated eigenvalues too (divided differences; Higham, "Functions
    of matrices", 2008, theorem 3.11).
    """

    def logarithm(eigh: _Eigh, a: Array) -> Array:
        values, vectors = eigh(a)
        return _product(vectors, jnp.log(values)[..., None] * vectors.mT)

    return _precisely(logarithm, a)


def _forward(a: Array) -> tuple[Array, Array]:
    return matrix_logarithm(a), a


def _backward(a: Array, cotangent: Array) -> tuple[Array]:
    def derivative(eigh: _Eigh, a: Array, direction: Array) -> Array:
        values, vectors = eigh(a)
        total = values[..., None, :] + values[..., :, None]
        gap = values[..., :, None] - values[..., None, :]
        logs = jnp.log(values)
        close = jnp.abs(gap) < 1e-3 * total
        slopes = (logs[..., :, None] - logs[..., None, :]) / jnp.where(close, 1, gap)
        slopes = jnp.where(close, 2 / total, slopes)
        inner = slopes * _product(vectors.mT, direction, vectors)
        return _product(vectors, inner, vectors.mT)

    # The derivative of a function of a symmetric matrix is its own adjoint.
    return (_precisely(derivative, a, cotangent),)


matrix_logarithm.defvjp(_forward, _backward)


def describe(moments_BM: Array, statistics: Sequence[str], scales: Sequence[int]) -> Array:
    """Description of images by the mean moments of their patches.

    Args:
        moments_BM: [B, M], as `moments` gives for the same statistics and scales.
        statistics: names in `STATISTICS`.
        scales: of the patches.

    Returns:
        [B, S], S = M. For each scale and statistic the upper triangle of the logarithm of the
        covariance matrix (of `residual` the second-moment matrix) plus `REGULARISATION` times
        identity, off-diagonals times sqrt 2, so that distances are those of the matrices; then the
        logarithm of each map's mean, of `residual` that of its kurtosis.
    """
    kinds = tuple(statistics) * len(scales)
    blocks = moments_BM.reshape(len(moments_BM), len(kinds), -1)
    channels = len(OPPONENT) * residual_basis().shape[-1]
    rows, columns = np.triu_indices(channels)
    second, first = blocks[..., : len(rows)], blocks[..., len(rows) :]
    plain = jnp.asarray([name == "residual" for name in kinds])[None, :, None]
    centre = jnp.where(plain, 0, first)
    covariance = second - centre[..., rows] * centre[..., columns]
    upper = jnp.zeros((*covariance.shape[:2], channels, channels), covariance.dtype)
    upper = upper.at[..., rows, columns].set(covariance)
    eye = REGULARISATION * jnp.eye(channels, dtype=upper.dtype)[None, None]
    log = matrix_logarithm(upper + jnp.triu(upper, 1).mT + eye)[..., rows, columns]
    weights = np.where(rows == columns, 1, 2**0.5)
    variance = second[..., rows == columns] + REGULARISATION
    kurtosis = jnp.log(first + 3 * REGULARISATION**2) - 2 * jnp.log(variance)
    last = jnp.where(plain, kurtosis, jnp.log(centre + REGULARISATION))
    described = jnp.concatenate([log * jnp.asarray(weights, log.dtype)[None, None], last], axis=-1)
    return described.reshape(moments_BM.shape)


class ResidualCovarianceExtractor(FixedExtractor):
    """Fixed description of an image, then a perceptron.

    Attributes:
        features: F, length of the feature.
        hidden: units of each hidden layer; none: the feature is linear in the description.
        dropout: share of the inputs of every layer that training leaves out.
        linear: how many numbers of the feature, the last ones, skip the hidden layers.
        components: principal components of descriptions that the layers see; 0: descriptions.
        statistics: of the residuals, names in `STATISTICS`.
        scales: factors by which patches are reduced, one after the other.
    """

    features: int = 64
    hidden: Sequence[int] = ()
    dropout: float = 0.0
    linear: int = 0
    components: int = 0
    statistics: Sequence[str] = ("magnitude", "energy")
    scales: Sequence[int] = (1, 2)

    @property
    def description_name(self) -> str:
        """See `FixedExtractor`; to be changed whenever the numbers of a description change."""
        return f"residual_covariance 1 {tuple(self.statistics)} {tuple(self.scales)}"

    def encode(self, x_MHWC: Array) -> tuple[Array, Intermediates]:
        """Tokens [M, S], the moments of each patch; nothing is learned, so no intermediates."""
        return moments(x_MHWC, self.statistics, self.scales), {}

    def pool(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Descriptions [B, S] of tokens [B, N, S]: of the image as a whole."""
        if mask_BN is None:
            return describe(tokens_BNT.mean(axis=1), self.statistics, self.scales)
        weights = mask_BN / mask_BN.sum(axis=1, keepdims=True)
        mean = jnp.einsum("bnt,bn->bt", tokens_BNT, weights, precision="highest")
        return describe(mean, self.statistics, self.scales)

    @nn.compact
    def learn(self, description_BS: Array, train: bool = False) -> tuple[Array, Intermediates]:
        """Features [B, F], and the hidden layers as hidden1, ...; the feature is among them.

        Descriptions are centred and scaled by constants that `standardise` sets and no optimizer
        moves, and cut off at `OUTLIER` deviations; then projected by such a constant, if asked.
        """
        size = (description_BS.shape[-1],)
        centre = lax.stop_gradient(self.param("centre", nn.initializers.zeros, size))
        scale = lax.stop_gradient(self.param("scale", nn.initializers.ones, size))
        x = jnp.clip((description_BS - centre[None]) * scale[None], -OUTLIER, OUTLIER)
        if self.components:
            basis = self.param("basis", nn.initializers.lecun_normal(), (*size, self.components))
            x = jnp.matmul(x, lax.stop_gradient(basis), precision="highest")
        perceptron = Perceptron(
            self.features, self.hidden, self.dropout, self.linear, name="layers"
        )
        return perceptron(x, train)

    def standardise(self, params: Params, descriptions: np.ndarray) -> Params:
        """Parameters that centre, scale and project like these descriptions [n, S].

        The others as given.

        Raises:
            UserError: there are no more descriptions than components.
        """
        centre = descriptions.mean(axis=0, dtype=np.float64)
        deviation = descriptions.std(axis=0, dtype=np.float64)
        scale = 1 / np.where(deviation > 1e-6, deviation, 1)
        params = params | {"centre": centre.astype(np.float32), "scale": scale.astype(np.float32)}
        if self.components:
            x = np.clip((descriptions - params["centre"]) * params["scale"], -OUTLIER, OUTLIER)
            params |= {"basis": _principal_basis(x, self.components)}
        return params


def _principal_basis(x: np.ndarray, components: int) -> np.ndarray:
    """float32 [S, components] of rows x [n, S]: principal directions, largest variance first.

    Divided by the power `_WHITENING` of their variances, and all together so that a row has on
    average a mean square of 1.
    """
    most = min(len(x) - 1, x.shape[1])
    if components > most:
        raise UserError(
            f"config.model.components = {components}: {len(x)} descriptions allow at most {most}"
        )
    # The smaller of the two products has the same eigenvalues, save zeros.
    wide = len(x) < x.shape[1]
    product = (x @ x.T if wide else x.T @ x) / len(x)
    size = len(product)
    values, vectors = scipy.linalg.eigh(product, subset_by_index=(size - components, size - 1))
    values, vectors = np.maximum(values[::-1], 1e-9 * values[-1]), vectors[:, ::-1]
    directions = x.T @ vectors / np.sqrt(values * len(x)) if wide else vectors
    directions = directions * np.sign(
        directions[np.abs(directions).argmax(axis=0), range(components)]
    )
    weights = values**-_WHITENING
    return (directions * weights / np.sqrt((values * weights**2).mean())).astype(np.float32)


_MOST_LAYERS: Final = 64
_MOST_UNITS: Final = 2**20


def build(config: ResidualCovarianceEncoder) -> ResidualCovarianceExtractor:
    """The network of a configuration.

    Raises:
        UserError: a layer without units, an unknown statistic or scale.
    """
    check_whole("model.hidden: layers", len(config.hidden), 0, _MOST_LAYERS)
    for name, sizes in (("features", (config.features,)), ("hidden", config.hidden)):
        for size in sizes:
            check_whole(f"model.{name}", size, 1, _MOST_UNITS)
    if config.components < 0:
        raise UserError(f"config.model.components = {config.components} must not be less than 0")
    if not 0 <= config.linear < config.features:
        raise UserError(
            f"config.model.linear = {config.linear} must lie in [0, {config.features}), below "
            "config.model.features"
        )
    if not 0 <= config.dropout < 1:
        raise UserError(f"config.model.dropout = {config.dropout} must lie in [0, 1)")
    for name in config.statistics or ("",):
        check_choice("model.statistics", name, tuple(STATISTICS))
    for scale in config.scales or (0,):
        check_choice("model.scales", str(scale), ("1", "2"))
    return ResidualCovarianceExtractor(
        config.features,
        tuple(config.hidden),
        config.dropout,
        config.linear,
        config.components,
        tuple(config.statistics),
        tuple(config.scales),
    )
