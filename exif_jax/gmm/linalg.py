"""Matrix kernels of the mixture: triangular and symmetric products at half the cost, safe factors.

Every product asks for the full precision of its type: by default a GPU would round float32 factors
to 10 bits of mantissa and a TPU to 7, which near-singular covariances do not survive.
"""

import itertools

import jax
import jax.numpy as jnp
from jax import Array, lax

_SMALLEST_BLOCK = 128  # columns; narrower products run below the machine's rate
_MOST_BLOCKS = 4  # 4 blocks do 5/8 of the work of a square product
# A weight, of rows whose mean weight is 1, that is lost among the rounding errors of their sum.
NEGLIGIBLE = 1e-15
_MOST_JITTERS = 60  # tenfold steps: more than the range of float64


def dot(a: Array, b: Array) -> Array:
    """Matrix product in the full precision of the arguments."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def column_blocks(columns: int) -> list[tuple[int, int]]:
    """Borders of nearly equal blocks of columns."""
    count = min(max(columns // _SMALLEST_BLOCK, 1), _MOST_BLOCKS)
    borders = [columns * i // count for i in range(count + 1)]
    return list(itertools.pairwise(borders))


def squared_norms(x_ND: Array, upper_DD: Array) -> Array:
    """Squared length of every row of x @ upper, [N], for an upper triangular matrix."""
    norms = [
        jnp.square(dot(x_ND[:, :b], upper_DD[:b, a:b])).sum(axis=1)
        for a, b in column_blocks(x_ND.shape[1])
    ]
    return jnp.stack(norms).sum(axis=0)


def _lower_blocks(weights_N: Array, x_ND: Array) -> list[Array]:
    """Block rows of the lower triangle of x^T diag(weights) x."""
    weighted = weights_N[:, None] * x_ND
    return [dot(weighted[:, a:b].T, x_ND[:, :b]) for a, b in column_blocks(x_ND.shape[1])]


def _joined(blocks: list[Array], columns: int) -> Array:
    """The symmetric matrix [D, D] of the block rows of its lower triangle."""
    padded = [jnp.pad(block, ((0, 0), (0, columns - block.shape[1]))) for block in blocks]
    lower = jnp.tril(jnp.concatenate(padded))
    return lower + jnp.tril(lower, -1).T


def scatter(x_ND: Array, weights_N: Array, centre_D: Array, tile: int) -> Array:
    """Sum over rows of weight (x - centre) (x - centre)^T, [D, D].

    Args:
        x_ND: rows.
        weights_N: not negative.
        centre_D: subtracted from every row.
        tile: rows are taken so many at a time, and a tile whose weights are all too small to change
            the sum is passed over; 0: all at once. Responsibilities in many dimensions are nearly
            one-hot, so rows sorted by component leave most tiles out.
    """
    rows, columns = x_ND.shape
    if not tile or rows % tile:
        return _joined(_lower_blocks(weights_N, x_ND - centre_D[None]), columns)

    def add(sums: list[Array], part: tuple[Array, Array]) -> tuple[list[Array], None]:
        x, weights = part

        def more(sums: list[Array]) -> list[Array]:
            return jax.tree.map(jnp.add, sums, _lower_blocks(weights, x - centre_D[None]))

        return lax.cond((weights > NEGLIGIBLE).any(), more, lambda sums: sums, sums), None

    zeros = [jnp.zeros((b - a, b), x_ND.dtype) for a, b in column_blocks(columns)]
    tiles = x_ND.reshape(-1, tile, columns), weights_N.reshape(-1, tile)
    return _joined(lax.scan(add, zeros, tiles)[0], columns)


def safe_cholesky(matrix_DD: Array) -> tuple[Array, Array]:
    """Lower Cholesky factor of a covariance, with jitter only where it fails without.

    Failed is a factorisation that breaks down, or one whose smallest pivot is no larger than the
    rounding errors of the matrix, taken as random: `4 sqrt(D) eps` of its mean diagonal. Then a
    multiple of the identity is added, ten times as much at every try.

    Returns:
        The factor [D, D], and what was added to the diagonal, 0 as a rule. NaN if the matrix holds
        NaN or infinity.
    """
    eps = jnp.finfo(matrix_DD.dtype).eps
    diagonal = jnp.diagonal(matrix_DD)
    # Working coordinates have unit variance: what is below eps of that is rounding noise.
    scale = jnp.maximum(diagonal.mean(), eps)
    identity = jnp.eye(len(matrix_DD), dtype=matrix_DD.dtype)
    noise = 4 * len(matrix_DD) ** 0.5 * eps * scale

    def factor(jitter: Array) -> Array:
        return jnp.linalg.cholesky(matrix_DD + jitter * identity, symmetrize_input=False)

    def fails(carry: tuple[Array, Array, Array]) -> Array:
        lower, _, tries = carry
        # A comparison with NaN is false.
        good = jnp.square(jnp.diagonal(lower)).min() > noise
        return ~good & (tries < _MOST_JITTERS)

    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, jitter, tries = carry
        jitter = jnp.maximum(10 * jitter, noise)
        return factor(jitter), jitter, tries + 1

    none = jnp.zeros((), matrix_DD.dtype)
    lower, jitter, _ = lax.while_loop(fails, again, (factor(none), none, jnp.array(0)))
    return lower, jitter


def inverse_transpose(lower_DD: Array) -> Array:
    """L^-T [D, D], upper triangular, of a lower triangular L: its columns whiten rows."""
    identity = jnp.eye(len(lower_DD), dtype=lower_DD.dtype)
    return jax.scipy.linalg.solve_triangular(lower_DD, identity, lower=True).T


def positive(variances: Array, scale: Array) -> tuple[Array, Array]:
    """Variances that are not rounding noise relative to `scale`, and what was added to them."""
    floor = 10 * jnp.finfo(variances.dtype).eps * jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)
    floor = jnp.maximum(floor, jnp.finfo(variances.dtype).tiny)
    safe = jnp.maximum(variances, floor)
    return safe, safe - variances
