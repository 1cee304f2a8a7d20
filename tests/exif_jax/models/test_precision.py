"""float32 means float32 and residuals are exact, whatever accelerators do by default."""

import dataclasses
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax.config import (
    BinaryConfig,
    OneClassConfig,
    PretextConfig,
    PublishedEncoder,
    ResidualCovarianceEncoder,
)
from exif_jax.models.extractor import apply, init_extractor
from exif_jax.models.normalisation import MapNorm
from exif_jax.models.patches import OFFSETS, normalise, whole_pixels
from exif_jax.models.stem import exact_residual_convolution, residual_convolution
from exif_jax.planning.programs import planned
from exif_jax.planning.topologies import open_topology, parse
from tests.exif_jax.models.emulation import BFLOAT16, TF32, rounding_operands

TINY = PublishedEncoder(
    width=4, stage_depths=(1, 1, 1), mixer_heads=2, mixer_head_dim=4, mixer_hidden=8
)
HALF = dataclasses.replace(TINY, dtype="bfloat16")
FIXED = ResidualCovarianceEncoder(features=6, hidden=(5,), linear=2, components=4)


@pytest.fixture(scope="module")
def pixels():
    """Two smooth, bright patches with little noise, as photographs have: uint8."""
    rng = np.random.default_rng(0)
    rows, columns, _ = np.mgrid[:64, :64, :3]
    smooth = 150 + 0.9 * rows + 0.6 * columns
    noisy = smooth + 1.5 * rng.normal(size=(2, 64, 64, 3))
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


# Every product of every program, as it goes to the compiler.


def products(text):
    """[(kind, types of the operands, what precision is asked for)] of StableHLO."""
    found = []
    for line in text.splitlines():
        kind = re.search(r"stablehlo\.(convolution|dot_general|dot)\b", line)
        if kind:
            types = re.search(r": \(tensor<[^>]*x(\w+)>, tensor<[^>]*x(\w+)>\)", line)
            precision = re.search(r"precision\w* = \[(?:#stablehlo<precision )?(\w+)", line)
            found.append((kind[1], set(types.groups()), precision[1] if precision else "DEFAULT"))
    return found


@pytest.mark.parametrize(
    "config",
    [
        PretextConfig(model=TINY),
        PretextConfig(model=HALF),
        PretextConfig(model=FIXED),
        BinaryConfig(),
        OneClassConfig(pca=4, num_components="2", precision="float32"),
    ],
    ids=["pretext", "pretext in bfloat16", "residual covariances", "binary", "one_class"],
)
def test_every_product_asks_for_float32_or_is_exact_without(config):
    plan = planned(config, open_topology(parse("cpu:8")), TINY)
    found = [x for program in plan.programs for x in products(program.lower().as_text())]
    half = [x for x in found if x[1] == {"bf16"}]
    assert all(precision == "HIGHEST" for _, types, precision in found if types != {"bf16"}), found
    assert len(found) - len(half) > 10
    # Only the fast policy multiplies in bfloat16, and only what is exact or rounded already.
    assert bool(half) == (getattr(config, "model", None) is HALF)


# What rounding operands would do, and does not.


@pytest.mark.parametrize("model", [TINY, HALF], ids=["float32", "bfloat16"])
def test_rounding_where_it_is_allowed_changes_nothing(model, pixels):
    extractor = model.build()
    params = init_extractor(extractor, jax.random.key(0))

    def feature(params, pixels):
        return apply(extractor, params, normalise(pixels)[None])[0]

    there = jax.jit(feature)(params, pixels)
    np.testing.assert_array_equal(rounding_operands(feature, BFLOAT16)(params, pixels), there)


def test_the_stem_is_exact_in_bfloat16(pixels):
    rng = np.random.default_rng(1)
    kernel = rng.uniform(-1, 1, (3, 3, 90, 4)).astype(np.float32) / 30
    bias = rng.uniform(-1, 1, 4).astype(np.float32) / 30
    with jax.enable_x64():
        precise = (jnp.asarray(x, jnp.float64) for x in (kernel, bias))
        wanted = residual_convolution(normalise(pixels), *precise)
        size = np.sqrt(np.square(wanted).mean())
    x = normalise(pixels)

    def error(out):
        assert out.dtype == jnp.float32
        return float(np.abs(out - np.asarray(wanted)).max() / size)

    exactly = partial(exact_residual_convolution, dtype=jnp.float32)
    exact = error(jax.jit(exactly)(x, kernel, bias))
    assert exact < 1e-4
    assert exact < 3 * error(jax.jit(residual_convolution)(x, kernel, bias))
    # What a TPU and a GPU would do to normalised pixels by default.
    for bits, lost in ((BFLOAT16, 0.1), (TF32, 0.01)):
        rounded = rounding_operands(residual_convolution, bits, everywhere=True)(x, kernel, bias)
        assert error(rounded) > lost


def test_the_gradient_of_the_exact_stem(pixels):
    rng = np.random.default_rng(2)
    kernel = rng.uniform(-1, 1, (3, 3, 90, 4)).astype(np.float32) / 30
    cotangent = rng.normal(size=(2, 64, 64, 4)).astype(jnp.bfloat16).astype(np.float32)

    def gradient(stem, x, kernel):
        bias = jnp.zeros(4, kernel.dtype)
        out, pull = jax.vjp(lambda *params: stem(x, *params), kernel, bias)
        return pull(jnp.asarray(cotangent, out.dtype))

    found = jax.jit(partial(gradient, exact_residual_convolution))(normalise(pixels), kernel)
    with jax.enable_x64():
        wanted = gradient(residual_convolution, normalise(pixels), jnp.asarray(kernel, jnp.float64))
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_pixels_are_whole_again():
    pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    found = whole_pixels(normalise(pixels))
    np.testing.assert_array_equal(found, pixels - OFFSETS)
    np.testing.assert_array_equal(found.astype(jnp.bfloat16), found)


# Normalisation and rematerialisation.


@pytest.mark.parametrize("limits", [(0.0, jnp.inf), (-1.0, 1.0)])
@pytest.mark.parametrize(
    ("dtype", "size"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 0.02)]
)
def test_normalisation_is_flaxs_with_less_kept(dtype, size, limits):
    rng = np.random.default_rng(3)
    with jax.enable_x64(dtype == "float64"):
        kept = "float64" if dtype == "float64" else "float32"
        x = jnp.asarray(rng.normal(0.3, 2, (3, 8, 8, 4)), dtype)
        scale, bias = (jnp.asarray(rng.normal(size=(8, 8, 4)), kept) for _ in range(2))
        params = {"params": {"scale": scale, "bias": bias}}
        axes = (-3, -2, -1)
        flax = nn.LayerNorm(
            epsilon=1e-5, reduction_axes=axes, feature_axes=axes, use_fast_variance=False
        )

        @jax.jit(static_argnums=(0, 1))
        def run(module, limits, x, params):
            out, pull = jax.vjp(lambda x, p: jnp.clip(module.apply(p, x), *limits), x, params)
            return out, pull(jnp.sin(jnp.arange(out.size)).reshape(out.shape).astype(out.dtype))

        found = run(MapNorm(*limits), (None, None), x, params)
        wanted = run(flax, limits, x.astype(kept), params)

    def check(a, b):
        np.testing.assert_allclose(np.asarray(a, kept), b, rtol=0, atol=size * np.abs(b).max())

    jax.tree.map(check, found, wanted)


def test_what_is_computed_again_changes_no_gradient(pixels):
    small = dataclasses.replace(TINY, stage_depths=(2, 1), mixer_blocks=0)

    def gradient(remat):
        extractor = dataclasses.replace(small, remat=remat).build()

        def loss(params):
            return jnp.square(apply(extractor, params, normalise(pixels)[None])[0]).sum()

        params = init_extractor(extractor, jax.random.key(0))
        return jax.jit(jax.grad(loss))(params), params

    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())

    wanted, params = gradient("none")
    found, same = gradient("norms")
    jax.tree.map(np.testing.assert_array_equal, same, params)
    jax.tree.map(check, found, wanted)
