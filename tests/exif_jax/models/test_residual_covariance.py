"""The residual-covariance extractor against a float64 NumPy reference, and what must hold of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, ndimage

from data_pipelines.errors import UserError
from data_pipelines.images import decode_image
from data_pipelines.perturbations import parse_perturbation
from exif_jax.config import ResidualCovarianceEncoder, encoder_from_json, to_json
from exif_jax.detection.features import extract_features
from exif_jax.models.extractor import apply, init_extractor
from exif_jax.models.patches import grid_patches, normalise
from exif_jax.models.residual_covariance import (
    OPPONENT,
    REGULARISATION,
    describe,
    matrix_logarithm,
    moments,
    residual_basis,
)
from exif_jax.models.srm import srm_kernels
from exif_jax.training.mapping import data_mesh

pytestmark = pytest.mark.usefixtures("optimised")

FILTERS, MAPS = 19, 57
UPPER = MAPS * (MAPS + 1) // 2
BLOCK = UPPER + MAPS  # numbers of one statistic at one scale
STATISTICS = ("residual", "magnitude", "energy")
SCALES = (1, 2)


def reduced(x, side):
    """Means over squares, by summing shifted copies."""
    return sum(x[i::side, j::side] for i in range(side) for j in range(side)) / side**2


def reference(patches):
    """Description of uint8 patches [N, 64, 64, 3], in float64 and by other routes."""
    blocks = []
    for scale in SCALES:
        values = {name: [] for name in STATISTICS}
        for patch in patches / 255.0:
            planes = np.tensordot(reduced(patch, scale), OPPONENT, axes=(2, 1))
            maps = np.stack(
                [
                    ndimage.correlate(planes[:, :, d], residual_basis()[:, :, f])[2:-2, 2:-2]
                    for d in range(3)
                    for f in range(FILTERS)
                ],
                axis=-1,
            )
            values["residual"].append(maps)
            values["magnitude"].append(reduced(np.abs(maps), 3 if scale == 1 else 4))
            sampled = maps[1::3, 1::3] if scale == 1 else maps
            values["energy"].append(np.minimum(5 * sampled**2, 0.2))
        for name in STATISTICS:
            x = np.concatenate([v.reshape(-1, MAPS) for v in values[name]])
            covariance = x.T @ x / len(x) if name == "residual" else np.cov(x.T, bias=True)
            eigenvalues, vectors = np.linalg.eigh(covariance + REGULARISATION * np.eye(MAPS))
            log = (vectors * np.log(eigenvalues)) @ vectors.T
            rows, columns = np.triu_indices(MAPS)
            blocks.append(log[rows, columns] * np.where(rows == columns, 1, np.sqrt(2)))
            if name == "residual":
                variance = np.diag(covariance) + REGULARISATION
                blocks.append(np.log(((x**4).mean(axis=0) + 3 * REGULARISATION**2) / variance**2))
            else:
                blocks.append(np.log(x.mean(axis=0) + REGULARISATION))
    return np.concatenate(blocks)


@jax.jit
def described(patches):
    of_patches = moments(normalise(patches), STATISTICS, SCALES)
    return describe(of_patches.mean(axis=0, keepdims=True), STATISTICS, SCALES)[0]


def photo_like(seed, size=128):
    """A smooth random scene with noise, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    scene = ndimage.gaussian_filter(rng.normal(size=(size, size, 3)), (3, 3, 0))
    image = 120 + 300 * scene + rng.normal(0, 2, scene.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def test_basis_is_orthonormal_and_spans_the_srm_kernels():
    basis, kernels = residual_basis().reshape(25, FILTERS), srm_kernels().reshape(25, 30)
    np.testing.assert_allclose(basis.T @ basis, np.eye(FILTERS), atol=1e-12)
    np.testing.assert_allclose(basis @ (basis.T @ kernels), kernels, atol=1e-12)
    np.testing.assert_allclose(OPPONENT @ OPPONENT.T, np.eye(3), atol=1e-15)


@pytest.mark.parametrize(
    "turn", [lambda b: b[::-1], lambda b: b[:, ::-1], lambda b: b.swapaxes(0, 1)]
)
def test_flips_and_transposition_permute_the_filters(turn):
    basis = residual_basis()
    images = basis.reshape(25, FILTERS).T @ turn(basis).reshape(25, FILTERS)
    np.testing.assert_allclose(np.abs(images).sum(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(np.abs(images).max(axis=0), 1, atol=1e-9)


@pytest.mark.parametrize("chain", ["none", "jpeg:90", "jpeg:50", "resize:0.5+jpeg:90", "blur:2"])
def test_description_equals_the_reference(chain):
    image = parse_perturbation(chain).apply(photo_like(0))
    patches = grid_patches(image)
    # One patch has 49 squares for 57 magnitudes at half size: a singular matrix, known to rounding.
    tolerance = 1e-4 if len(patches) > 1 else 2e-3
    np.testing.assert_allclose(described(patches), reference(patches), atol=tolerance)


def test_description_of_real_photos_equals_the_reference(real_data):
    paths = sorted((real_data / "dev" / "photos").glob("*/*.jpg"))[::600]
    paths += sorted((real_data / "dev" / "generated").glob("*/*.*"))[::300]
    assert len(paths) > 6
    for path in paths:
        patches = grid_patches(parse_perturbation("jpeg:90").apply(decode_image(path)))
        np.testing.assert_allclose(described(patches), reference(patches), atol=1e-4)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_image_has_a_finite_description(value):
    patches = np.full((1, 64, 64, 3), value, np.uint8)
    description = np.asarray(described(patches))
    assert np.isfinite(description).all()
    np.testing.assert_allclose(description[UPPER:BLOCK], np.log(3), atol=1e-3)
    np.testing.assert_allclose(description[::BLOCK], np.log(REGULARISATION), rtol=1e-3)


def test_derivative_of_the_logarithm_is_that_of_differences():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(5, 5))
    matrix, direction = factor @ factor.T + np.eye(5), rng.normal(size=(5, 5))
    direction = direction + direction.T
    with jax.enable_x64():
        for a in (matrix, np.eye(5), np.diag([1.0, 1.0, 2.0, 2.0001, 3.0])):
            _, adjoint = jax.vjp(matrix_logarithm, jnp.asarray(a))
            step = 1e-5
            difference = linalg.logm(a + step * direction) - linalg.logm(a - step * direction)
            np.testing.assert_allclose(
                *adjoint(jnp.asarray(direction)), difference / (2 * step), atol=1e-6
            )


def test_gradient_with_respect_to_pixels_is_right():
    image = photo_like(1)[:64, :64].astype(np.float64)
    weights = np.random.default_rng(0).normal(size=6 * BLOCK)

    def describe_patches(x):
        return describe(moments(x, STATISTICS, SCALES), STATISTICS, SCALES)[0]

    @jax.jit
    @jax.value_and_grad
    def number_and_gradient(pixels):
        return (describe_patches(normalise(pixels[None])) * weights).sum()

    with jax.enable_x64():
        gradient = np.asarray(number_and_gradient(image)[1])
        for position in [(0, 0, 0), (31, 17, 1), (63, 63, 2)]:
            moved = [image.copy(), image.copy()]
            moved[0][position] += 1e-3
            moved[1][position] -= 1e-3
            slope = (number_and_gradient(moved[0])[0] - number_and_gradient(moved[1])[0]) / 2e-3
            np.testing.assert_allclose(gradient[position], slope, rtol=1e-5, atol=1e-8)
    constant = jax.jit(jax.grad(lambda x: describe_patches(x).sum()))(jnp.zeros((1, 64, 64, 3)))
    assert np.isfinite(constant).all()


@pytest.fixture(scope="module")
def extractor():
    return ResidualCovarianceEncoder(features=6, hidden=(5,)).build()


@pytest.fixture(scope="module")
def params(extractor):
    return init_extractor(extractor, jax.random.key(0))


def test_padding_does_not_count(extractor, params):
    tokens = apply(extractor, params, normalise(grid_patches(photo_like(2))), method="encode")[0]
    padded = jnp.concatenate([tokens, 1e3 * jnp.ones((3, tokens.shape[1]))])[None]
    mask = jnp.arange(7)[None] < 4
    alone = apply(extractor, params, tokens[None], method="mix")
    with_padding = apply(extractor, params, padded, mask, method="mix")
    np.testing.assert_allclose(with_padding, alone, atol=1e-5)


def test_features_are_the_same_on_one_and_eight_devices(extractor, params):
    images = [photo_like(seed, size) for seed, size in enumerate((64, 128, 200))]
    many, one = (
        extract_features(extractor, params, images, chunk=8, mesh=data_mesh(jax.devices()[:n]))
        for n in (8, 1)
    )
    assert many.shape == (3, 6)
    np.testing.assert_allclose(many, one, atol=1e-5)


def test_call_gives_feature_and_learned_intermediates(extractor, params):
    patches = normalise(grid_patches(photo_like(3)))[None]
    feature, intermediates = apply(extractor, params, patches)
    assert {name: x.shape for name, x in intermediates.items()} == {
        "hidden1": (1, 5),
        "feature": (1, 6),
    }
    np.testing.assert_array_equal(intermediates["feature"], feature)


def test_standardising_constants_are_set_and_do_not_move(extractor, params):
    descriptions = np.random.default_rng(0).normal(3, 2, (50, 4 * BLOCK)).astype(np.float32)
    descriptions[:, 0] = 7  # no deviation
    standard = extractor.standardise(params, descriptions)
    np.testing.assert_allclose(standard["centre"], descriptions.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        standard["scale"][1:], 1 / descriptions[:, 1:].std(axis=0), rtol=1e-4
    )
    assert standard["scale"][0] == 1

    def total(p):
        return apply(extractor, p, descriptions, method="learn")[0].sum()

    gradient = jax.grad(total)(standard)
    assert not np.asarray(gradient["centre"]).any()
    assert not np.asarray(gradient["scale"]).any()
    assert np.asarray(gradient["layers"]["feature"]["kernel"]).any()


@pytest.mark.parametrize("rows", [60, 400])  # less and more than numbers of a description
def test_layers_see_half_whitened_principal_components(rows):
    extractor = ResidualCovarianceEncoder(features=2, components=9, statistics=("energy",)).build()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 12)) @ rng.normal(size=(12, 300)) + rng.normal(size=300)
    fitted = extractor.standardise({}, x.astype(np.float32))
    standard = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -4, 4)
    values = np.linalg.eigvalsh(standard.T @ standard / rows)[::-1][:9]
    projected = standard @ fitted["basis"]
    second = projected.T @ projected / rows
    np.testing.assert_allclose(np.trace(second), 9, rtol=1e-4)
    wanted = np.sqrt(values) / np.sqrt(values).sum() * 9
    np.testing.assert_allclose(second, np.diag(wanted), atol=1e-3)
    with pytest.raises(UserError, match=r"components = 9: 9 descriptions allow at most 8"):
        extractor.standardise({}, x[:9].astype(np.float32))


def test_dropout_is_of_training_alone(extractor):
    dropping = ResidualCovarianceEncoder(features=6, hidden=(5,), dropout=0.5).build()
    params = init_extractor(dropping, jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 4 * BLOCK)).astype(np.float32)
    still = apply(dropping, params, x, method="learn")[0]
    np.testing.assert_array_equal(still, apply(extractor, params, x, method="learn")[0])
    first, second = (
        apply(dropping, params, x, method="learn", train=True, rngs={"dropout": jax.random.key(n)})
        for n in (0, 1)
    )
    assert np.abs(first[0] - second[0]).max() > 1e-3


def test_linear_features_skip_the_hidden_layers():
    module = ResidualCovarianceEncoder(features=6, hidden=(5,), linear=2).build()
    params = init_extractor(module, jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 4 * BLOCK)).astype(np.float32)
    feature, layers = apply(module, params, x, method="learn")
    assert feature.shape == (2, 6)
    np.testing.assert_array_equal(layers["feature"], feature)
    own = jax.tree.map(np.asarray, params["layers"]["linear"])
    np.testing.assert_allclose(feature[:, 4:], x @ own["kernel"] + own["bias"], atol=1e-4)


def test_stored_configuration_builds_it_again():
    config = ResidualCovarianceEncoder(9, (4, 3), 0.5, 2, 7, ("residual",), (2,))
    assert encoder_from_json(to_json(config)) == config
    with pytest.raises(UserError, match=r"config.model.hidden = 0: not a whole"):
        ResidualCovarianceEncoder(hidden=(0,)).build()
    with pytest.raises(UserError, match=r"config.model.linear = 6 must lie in \[0, 6\)"):
        ResidualCovarianceEncoder(features=6, linear=6).build()
    with pytest.raises(UserError, match=r"config.model.dropout = 1 must"):
        ResidualCovarianceEncoder(dropout=1).build()
    with pytest.raises(UserError, match=r"config.model.components = -1"):
        ResidualCovarianceEncoder(components=-1).build()
    with pytest.raises(UserError, match=r"config\.model\.statistics = 'mean' is not known"):
        ResidualCovarianceEncoder(statistics=("mean",)).build()
    with pytest.raises(UserError, match=r"config\.model\.scales = '3' is not known"):
        ResidualCovarianceEncoder(scales=(3,)).build()


def test_noise_raises_every_variance():
    """More noise, larger log-variances: the description means what it says."""
    calm, noisy = (
        np.clip(
            photo_like(4).astype(int) + np.random.default_rng(1).normal(0, s, (128, 128, 3)), 0, 255
        )
        for s in (0, 8)
    )
    diagonal = np.cumsum([0, *range(MAPS, 1, -1)])
    before, after = (
        np.asarray(described(grid_patches(x.astype(np.uint8))))[diagonal] for x in (calm, noisy)
    )
    assert (after > before).all()
