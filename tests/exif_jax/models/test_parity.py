"""The published model, reproduced: every reference array, layer by layer, in both precisions."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax import losses
from exif_jax.models.heads import BinaryHead, PretextHeads
from exif_jax.models.patches import normalise
from exif_jax.models.published import PublishedExtractor, residual_convolution
from exif_jax.models.released import RELEASED_TARGETS, import_weights, read_checkpoint
from exif_jax.models.srm import srm_kernels

pytestmark = pytest.mark.usefixtures("optimised")

ABSOLUTE = {"float64": 1e-5, "float32": 1e-3}
RELATIVE_LOSS = {"float64": 1e-5, "float32": 1e-4}


@pytest.fixture(scope="module")
def weights(parity):
    kind, params = import_weights(
        read_checkpoint(parity / "pretext_random_state.npz"), "pretext_random_state.npz"
    )
    assert kind == "pretext"
    return params


@pytest.fixture(scope="module")
def expected(parity):
    return dict(np.load(parity / "expected.npz"))


@pytest.fixture(scope="module", params=["float64", "float32"])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(scope="module")
def network(precision):
    """(features, intermediates) of parameters and uint8 patches [B, N, 64, 64, 3]."""
    return jax.jit(lambda p, x: PublishedExtractor().apply({"params": p}, normalise(x)))


@pytest.fixture(scope="module")
def sides(network, precision, weights, expected):
    """(features, intermediates) of both sides of the pairs."""
    params = jax.tree.map(lambda x: jnp.asarray(x, precision), weights["extractor"])
    return [network(params, expected["patches_uint8"][:, side]) for side in (0, 1)]


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3).reshape(-1, x.shape[-1], *x.shape[-3:-1])


def test_the_bank_is_the_published_one(parity):
    arrays = np.load(parity / "pretext_random_state.npz")
    published = arrays["module.backbone.group1.hpf.weight"]
    np.testing.assert_allclose(srm_kernels().transpose(2, 0, 1)[:, None], published, atol=1e-7)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("layer", ["f1", "f2", "f3", "f4", "f5", "f"])
def test_layer(layer, side, sides, expected, precision):
    features, intermediates = sides[side]
    if layer == "f":
        actual = np.asarray(features)
    elif layer == "f5":
        actual = np.asarray(intermediates["f5"])
    else:
        actual = channels_first(intermediates[layer])
        if layer in ("f1", "f2"):
            actual = actual[:, :, ::8, ::8]
    assert actual.dtype == precision
    np.testing.assert_allclose(
        actual, expected[f"{layer}_side{side}"], rtol=0, atol=ABSOLUTE[precision]
    )


def test_feature_of_three_patches(network, precision, weights, expected):
    params = jax.tree.map(lambda x: jnp.asarray(x, precision), weights["extractor"])
    features, _ = network(params, expected["patches_uint8"][:1, 0, :3])
    np.testing.assert_allclose(
        features, expected["f_three_patches"], rtol=0, atol=ABSOLUTE[precision]
    )


def test_every_target(sides, weights, expected, precision):
    heads = jax.tree.map(lambda x: jnp.asarray(x, precision), weights["heads"])
    sizes = tuple((target.name, target.size) for target in RELEASED_TARGETS)
    outputs = [PretextHeads(sizes).apply({"params": heads}, features) for features, _ in sides]
    total = 0.0
    for i, target in enumerate(RELEASED_TARGETS):
        a, b = (out[target.name] for out in outputs)
        labels = jnp.asarray(expected["labels"][:, i], precision)
        if target.kind == "ranked":
            difference = (a - b)[:, 0]
            np.testing.assert_allclose(
                jax.scipy.stats.norm.cdf(difference)[:, None],
                expected[f"prob_{i}"],
                rtol=0,
                atol=ABSOLUTE[precision],
            )
            values = losses.pair_loss(difference, labels, "bce")
        else:
            np.testing.assert_allclose(a, expected[f"logits_{i}"], rtol=0, atol=ABSOLUTE[precision])
            values, valid = losses.classification_loss(a, labels)
            assert valid.all()
        loss = float(values.mean())
        np.testing.assert_allclose(loss, expected[f"loss_{i}"], rtol=RELATIVE_LOSS[precision])
        total += loss
    np.testing.assert_allclose(total, expected["loss_total"], rtol=RELATIVE_LOSS[precision])


def test_binary_loss(network, sides, weights, expected, parity, precision):
    reference = np.load(parity / "binary_expected.npz")
    teacher = jax.tree.map(lambda x: jnp.asarray(x, precision), weights["extractor"])
    trained = jax.tree.map(lambda x: jnp.asarray(0.9, precision) * x, teacher)
    features, intermediates = network(trained, expected["patches_uint8"][:, 0])
    i, j = np.mgrid[1:3, 1:529]
    head = {
        "fc": {
            "kernel": jnp.asarray((i * j % 7 - 3).T / 100, precision),
            "bias": jnp.asarray([0.1, -0.1], precision),
        }
    }
    logits = BinaryHead().apply({"params": head}, features)
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=ABSOLUTE[precision])
    labels = jnp.asarray([0.0, 1.0], precision)
    entropy = float(losses.classification_loss(logits, labels)[0].mean())
    for name, part in zip(("f1", "f2", "f3", "f4", "f5"), reference["parts"], strict=True):
        single = losses.feature_distance({name: intermediates[name]}, sides[0][1])
        np.testing.assert_allclose(single.mean(), part, rtol=0, atol=ABSOLUTE[precision])
    distance = float(losses.feature_distance(intermediates, sides[0][1]).mean())
    tolerance = RELATIVE_LOSS[precision]
    np.testing.assert_allclose(entropy, reference["cross_entropy"], rtol=tolerance)
    np.testing.assert_allclose(distance, reference["distance"], rtol=tolerance)
    np.testing.assert_allclose(entropy + 0.05 * distance, reference["loss"], rtol=tolerance)


def test_one_pass_stem_equals_filters_then_convolution(precision):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 64, 64, 3)), precision)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 90, 4)), precision)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )

    bank = jnp.asarray(srm_kernels(), precision)[:, :, None]
    planes = [convolve(x[..., plane : plane + 1], bank) for plane in range(3)]
    two_steps = convolve(jnp.concatenate(planes, axis=-1), kernel)
    one_pass = residual_convolution(x, kernel)
    scale = float(jnp.abs(two_steps).max())
    np.testing.assert_allclose(
        one_pass, two_steps, rtol=0, atol=scale * (1e-12 if precision == "float64" else 1e-5)
    )


def test_parameter_count(weights):
    count = sum(x.size for x in jax.tree.leaves(weights["extractor"])) + srm_kernels().size
    assert count == 2_149_198


def test_the_file_may_be_missing_its_prefix(parity):
    arrays = read_checkpoint(Path(parity / "pretext_random_state.npz"))
    _, params = import_weights({k.removeprefix("module."): v for k, v in arrays.items()}, "x.npz")
    assert set(params) == {"extractor", "heads"}
