"""Features of images of any size: the same in chunks, buckets, and over devices."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax.config import PublishedEncoder
from exif_jax.detection.features import extract_features, feature_functions, limit_patches
from exif_jax.models import published as extractor_module
from exif_jax.models.extractor import apply, extractor_shapes, init_extractor
from exif_jax.models.patches import grid_patches, normalise
from exif_jax.training.mapping import data_mesh

CONFIG = PublishedEncoder(width=4, stage_depths=(1, 1, 1), mixer_hidden=8)
SIZES = [(64, 64), (40, 200), (130, 200), (256, 256), (70, 64), (64 * 9, 64 * 2)]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="module")
def network():
    module = CONFIG.build()
    return module, init_extractor(module, jax.random.key(0))


@pytest.fixture(scope="module")
def direct(network, images):
    """Features computed image by image, without chunks or masks."""
    module, params = network
    run = jax.jit(lambda x: apply(module, params, normalise(x))[0])
    return np.concatenate([run(grid_patches(image)[None]) for image in images])


@pytest.mark.parametrize(("devices", "chunk"), [(1, 7), (1, 512), (8, 8)])
def test_chunks_buckets_and_devices_change_nothing(network, images, direct, devices, chunk):
    module, params = network
    mesh = data_mesh(jax.devices()[:devices])
    features = extract_features(module, params, iter(images), chunk=chunk, mesh=mesh)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, direct, rtol=1e-4, atol=1e-5)


def test_other_sizes_compile_nothing_new(network, images):
    module, params = network
    mesh = data_mesh(jax.devices()[:1])
    functions = feature_functions(module, mesh)

    def compiled() -> tuple[int, int]:
        return functions.encode._cache_size(), functions.mix._cache_size()

    extract_features(module, params, images, chunk=7, mesh=mesh)
    before = compiled()
    # 12, 6 and 60 patches: lengths that fall into buckets already met.
    others = [np.zeros((*size, 3), np.uint8) for size in [(200, 300), (400, 70), (400, 640)]]
    extract_features(module, params, others, chunk=7, mesh=mesh)
    assert compiled() == before


def test_attention_in_slices_is_attention(network, monkeypatch):
    module, params = network
    tokens = jax.random.normal(jax.random.key(1), (2, 30, extractor_shapes(module)[1]))
    mask = jnp.arange(30)[None] < jnp.array([30, 11])[:, None]
    mix = partial(apply, module, method="mix")
    whole = jax.jit(mix)(params, tokens, mask)
    monkeypatch.setattr(extractor_module, "_ATTENTION_ENTRIES", 100)
    jax.clear_caches()
    sliced = jax.jit(mix)(params, tokens, mask)
    np.testing.assert_allclose(sliced, whole, rtol=1e-5, atol=1e-6)


def test_padding_tokens_change_nothing(network):
    module, params = network
    tokens = jax.random.normal(jax.random.key(1), (1, 5, extractor_shapes(module)[1]))
    mix = jax.jit(partial(apply, module, method="mix"))
    alone = mix(params, tokens)
    padded = jnp.concatenate([tokens, 100 * jnp.ones((1, 3, extractor_shapes(module)[1]))], axis=1)
    masked = mix(params, padded, jnp.arange(8)[None] < 5)
    np.testing.assert_allclose(masked, alone, rtol=1e-5, atol=1e-6)


def test_constant_image_gives_finite_features(network):
    module, params = network
    mesh = data_mesh(jax.devices()[:1])
    for value in (0, 128, 255):
        image = np.full((64, 64, 3), value, np.uint8)
        assert np.isfinite(extract_features(module, params, [image], mesh=mesh)).all()


def test_limit_keeps_the_first_patch_and_spreads_the_rest():
    patches = np.arange(10)
    assert limit_patches(patches, 0).tolist() == list(range(10))
    assert limit_patches(patches, 3).tolist() == [0, 3, 6]
    assert limit_patches(patches, 20).tolist() == list(range(10))


def test_no_images_no_features(network):
    module, params = network
    assert len(extract_features(module, params, [])) == 0


def test_bfloat16_convolutions_stay_close(network, images):
    _, params = network
    x = normalise(jnp.asarray(grid_patches(images[3])[None]))
    full, half = (
        jax.jit(partial(apply, dataclasses.replace(CONFIG, dtype=dtype).build()))(params, x)
        for dtype in ("float32", "bfloat16")
    )
    assert half[0].dtype == half[1]["f5"].dtype == jnp.float32
    assert half[1]["f1"].dtype == jnp.bfloat16
    error = jnp.linalg.norm(half[0] - full[0]) / jnp.linalg.norm(full[0])
    assert 0 < error < 0.05
