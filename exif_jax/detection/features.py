"""Features of images of any size: patches in chunks of two fixed shapes, then a masked transformer.

Only the tokens of an image (528 numbers for each 64x64 patch) grow with its size. Images are mixed
in buckets whose lengths are powers of four, so few shapes are ever compiled.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data_pipelines.images import ImageError
from exif_jax.models.extractor import Extractor, FixedExtractor, apply
from exif_jax.models.patches import normalise, patch_grid
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, replicate, shard

Params = dict[str, Any]
_CHUNK = 256  # patches encoded at once
_CPU_CHUNK = 32  # by a `FixedExtractor` on CPU, where what lies between must fit the caches
_RUNNING = 2  # chunks at once on the devices: the next is cut out meanwhile
_FEWER = 8  # parts of a chunk; of the second of the two shapes that are encoded
_MIXED_TOKENS = 1024  # tokens mixed at once, unless one image or one device a row needs more
_MIXED_IMAGES = 16  # at most; what is missing of them is padded, and takes as long
_LEARNED_ROWS = 4096  # descriptions from which features are computed at once


class FeatureFunctions(NamedTuple):
    """The two compiled halves of an extractor; parameters are explicit arguments.

    Attributes:
        encode: (params, uint8 [M, 64, 64, 3]) -> tokens [M, T].
        mix: (params, tokens [B, N, T], mask [B, N]) -> features [B, F], or descriptions [B, S].
        mesh: over whose devices M and B are divided.
    """

    encode: Callable[[Params, Array], Array]
    mix: Callable[[Params, Array, Array], Array]
    mesh: Mesh


@cache
def feature_functions(extractor: Extractor, mesh: Mesh, method: str = "mix") -> FeatureFunctions:
    """Maps and compiles the two halves of an extractor; one pair for each extractor and mesh.

    The second half is `mix`, or `pool` of a `FixedExtractor`.
    """

    def encode(params: Params, patches: Array) -> Array:
        return apply(extractor, params, normalise(patches), method="encode")[0]

    def mix(params: Params, tokens: Array, mask: Array) -> Array:
        return apply(extractor, params, tokens, mask, method=method)

    return FeatureFunctions(
        over_devices(encode, mesh, (REPLICATED, SHARDED), SHARDED),
        over_devices(mix, mesh, (REPLICATED, SHARDED, SHARDED), SHARDED),
        mesh,
    )


def limit_patches(patches: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` patches, evenly spread over the raster, the first kept; 0: all of them."""
    if not limit or len(patches) <= limit:
        return patches
    return patches[np.arange(limit) * len(patches) // limit]


def extract_features(
    extractor: Extractor,
    params: Params,
    images: Iterable[np.ndarray],
    chunk: int | None = None,
    limit: int = 0,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Features of images, each over its whole grid of patches.

    Args:
        extractor: the network.
        params: of it, on the host or, which saves a copy a call, on the devices (`replicate`).
        images: uint8 [H, W, 3] each, of any sizes; read once, in order.
        chunk: patches encoded at once; rounded up to a multiple of the devices. By default what is
            fast.
        limit: at most this many patches of an image, see `limit_patches`; 0: all.
        mesh: of the devices to use; those of this process by default.

    Returns:
        float32 [images, T], in order.
    """
    functions = feature_functions(extractor, mesh or data_mesh(jax.local_devices()))
    chunk = chunk or default_chunk(extractor, functions.mesh)
    return _extract(functions, params, images, chunk, limit)


def extract_descriptions(
    extractor: FixedExtractor,
    images: Iterable[np.ndarray],
    chunk: int | None = None,
    limit: int = 0,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Descriptions float32 [images, S], from which `learn` makes features.

    The arguments are those of `extract_features`.
    """
    functions = feature_functions(extractor, mesh or data_mesh(jax.local_devices()), "pool")
    chunk = chunk or default_chunk(extractor, functions.mesh)
    return _extract(functions, {}, images, chunk, limit)


def default_chunk(extractor: Extractor, mesh: Mesh) -> int:
    """Patches to encode at once."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return _CPU_CHUNK if on_cpu and isinstance(extractor, FixedExtractor) else _CHUNK


def divisible(chunk: int, mesh: Mesh) -> int:
    """So many patches, or a few more, that the devices divide."""
    return -(-chunk // mesh.size) * mesh.size


@cache
def _learn(extractor: FixedExtractor) -> Callable[[Params, np.ndarray], Array]:
    return jax.jit(lambda params, x: apply(extractor, params, x, method="learn")[0])


def features_of(extractor: FixedExtractor, params: Params, descriptions: np.ndarray) -> np.ndarray:
    """Features float32 [n, F] of descriptions [n, S]."""
    parts = range(0, len(descriptions), _LEARNED_ROWS) or range(1)
    rows = (descriptions[start : start + _LEARNED_ROWS] for start in parts)
    return np.concatenate([np.asarray(_learn(extractor)(params, x)) for x in rows])


def _extract(
    functions: FeatureFunctions,
    params: Params,
    images: Iterable[np.ndarray],
    chunk: int,
    limit: int,
) -> np.ndarray:
    params, mesh_size = replicate(params, functions.mesh), functions.mesh.size
    chunk = divisible(chunk, functions.mesh)
    features: dict[int, np.ndarray] = {}
    waiting: dict[int, list[tuple[int, np.ndarray]]] = {}  # by bucket
    count = 0
    for index, tokens in _tokens(functions, params, images, chunk, limit):
        count = index + 1
        length = _bucket(len(tokens))
        rows = waiting.setdefault(length, [])
        rows.append((index, tokens))
        if len(rows) == mixed_rows(length, mesh_size):
            features |= _mix(functions, params, waiting.pop(length), length)
    for length, rows in waiting.items():
        features |= _mix(functions, params, rows, length)
    if not count:
        return np.zeros((0, 0), np.float32)
    return np.stack([features[index] for index in range(count)]).astype(np.float32)


def readable(
    images: Iterable[Callable[[], np.ndarray]], errors: dict[int, ImageError]
) -> Iterator[np.ndarray]:
    """Images from what decodes them; the errors of unreadable ones go to `errors`, by position."""
    for position, decode in enumerate(images):
        try:
            yield decode()
        except ImageError as error:
            errors[position] = error


def _bucket(length: int) -> int:
    bucket = 1
    while bucket < length:
        bucket *= 4
    return bucket


def mixed_rows(length: int, mesh_size: int) -> int:
    """Images of so many tokens that are mixed at once."""
    rows = min(_MIXED_IMAGES, _MIXED_TOKENS // length)
    return max(1, rows // mesh_size) * mesh_size


def _tokens(
    functions: FeatureFunctions,
    params: Params,
    images: Iterable[np.ndarray],
    chunk: int,
    limit: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Tokens [N, T] of every image, with its index; chunks run across the borders of images."""
    patches: list[np.ndarray] = []  # not yet encoded
    owners: list[tuple[int, int]] = []  # (image, number of its patches) not yet complete
    running: list[tuple[Array, int]] = []  # being encoded, and the number of patches
    tokens: list[np.ndarray] = []  # encoded, of the images in `owners`

    def wait() -> None:
        encoded, count = running.pop(0)
        tokens.append(np.asarray(encoded)[:count])

    def encode_chunk(size: int) -> None:
        if len(running) == _RUNNING:
            wait()
        pending = np.concatenate(patches)
        now = pending[:size]
        padded = np.zeros((size, *now.shape[1:]), np.uint8)
        padded[: len(now)] = now
        running.append((functions.encode(params, shard(padded, functions.mesh)), len(now)))
        patches[:] = [pending[size:]] if len(pending) > size else []

    def complete() -> Iterator[tuple[int, np.ndarray]]:
        while owners and sum(map(len, tokens)) >= owners[0][1]:
            index, size = owners.pop(0)
            joined = np.concatenate(tokens)
            tokens[:] = [joined[size:]]
            yield index, joined[:size]

    for index, image in enumerate(images):
        grid = patch_grid(image)
        kept = limit_patches(np.arange(grid.shape[0] * grid.shape[1]), limit)
        owners.append((index, len(kept)))
        for start in range(0, len(kept), chunk):  # a copy of all of a large image would be as large
            patches.append(grid[np.unravel_index(kept[start : start + chunk], grid.shape[:2])])
            while sum(map(len, patches)) >= chunk:
                encode_chunk(chunk)
        yield from complete()
    # One small image, padded to a whole chunk, would take as long as a large one.
    few = -(-chunk // (_FEWER * functions.mesh.size)) * functions.mesh.size
    while patches:
        encode_chunk(few if sum(map(len, patches)) <= chunk // 2 else chunk)
    while running:
        wait()
    yield from complete()


def _mix(
    functions: FeatureFunctions, params: Params, rows: list[tuple[int, np.ndarray]], length: int
) -> dict[int, np.ndarray]:
    size = mixed_rows(length, functions.mesh.size)
    tokens = np.zeros((size, length, rows[0][1].shape[-1]), rows[0][1].dtype)
    mask = np.zeros((size, length), bool)
    mask[:, 0] = True  # an image of padding alone must have something to attend to
    for row, (_, x) in enumerate(rows):
        tokens[row, : len(x)], mask[row, : len(x)] = x, True
    mixed = functions.mix(params, shard(tokens, functions.mesh), shard(mask, functions.mesh))
    return {index: x for (index, _), x in zip(rows, np.asarray(mixed), strict=False)}
