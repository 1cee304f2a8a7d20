"""Weights in the layout of the released PyTorch checkpoints -> parameters of our modules.

The correspondence is one table, built from the architecture: released key -> (path of our
parameter, shape in the file, transform). Everything is checked against it before anything is used.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.images import PATCH
from data_pipelines.targets import Target
from exif_jax.models.srm import srm_kernels

WIDTH, STAGE_DEPTHS, HIDDEN, INNER = 32, (4, 2, 2, 2), 128, 64
TOKEN = WIDTH * (WIDTH + 1) // 2
# Sizes of the fourteen heads; their tags' class names were not released (only ids).
_HEADS = {1: "Make", 5: "Model", 6: "Flash", 9: "MeteringMode", 10: "ExposureMode"}
_HEADS |= {11: "WhiteBalance", 13: "SceneCaptureType"}
_HEAD_SIZES = (1, 7, 1, 1, 1, 6, 4, 1, 1, 6, 4, 2, 1, 5)

RELEASED_TARGETS = tuple(
    Target(_HEADS[i], "categorical", tuple(f"id {c}" for c in range(size)))
    if i in _HEADS
    else Target(f"ranked{i}", "ranked")
    for i, size in enumerate(_HEAD_SIZES)
)

Params = dict[str, Any]


class _Entry(NamedTuple):
    path: tuple[str, ...]
    shape: tuple[int, ...]
    transform: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _conv(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 3, 1, 0)  # OIHW -> HWIO


def _map(x: np.ndarray) -> np.ndarray:
    return x.transpose(1, 2, 0)  # CHW -> HWC


def _affine(
    key: str, path: tuple[str, ...], shape: tuple[int, ...]
) -> Iterator[tuple[str, _Entry]]:
    transform = _map if len(shape) == 3 else _same
    yield f"{key}.weight", _Entry((*path, "scale"), shape, transform)
    yield f"{key}.bias", _Entry((*path, "bias"), shape, transform)


def _dense(
    key: str, path: tuple[str, ...], inputs: int, outputs: int, bias: bool = True
) -> Iterator[tuple[str, _Entry]]:
    yield f"{key}.weight", _Entry((*path, "kernel"), (outputs, inputs), np.transpose)
    if bias:
        yield f"{key}.bias", _Entry((*path, "bias"), (outputs,), _same)


def _extractor_table() -> dict[str, _Entry]:
    """Released key -> our parameter, for the extractor; the fixed filters are checked apart."""
    table: dict[str, _Entry] = {}
    table["group1_b.0.weight"] = _Entry(("encoder", "stem_kernel"), (WIDTH, 90, 3, 3), _conv)
    table["group1_b.0.bias"] = _Entry(("encoder", "stem_bias"), (WIDTH,), _same)
    table |= _affine("group1_b.1", ("encoder", "stem_norm"), (WIDTH, PATCH, PATCH))
    for stage, depth in enumerate(STAGE_DEPTHS, start=1):
        side = PATCH >> (stage - 1)
        for layer in range(depth):
            key, name = f"group{stage + 1}", f"stage{stage}_layer{layer + 1}"
            conv = ("encoder", f"{name}_conv")
            table[f"{key}.{3 * layer}.weight"] = _Entry(
                (*conv, "kernel"), (WIDTH, WIDTH, 3, 3), _conv
            )
            table[f"{key}.{3 * layer}.bias"] = _Entry((*conv, "bias"), (WIDTH,), _same)
            norm = ("encoder", f"{name}_norm")
            table |= _affine(f"{key}.{3 * layer + 1}", norm, (WIDTH, side, side))
    for block in range(2):
        key, name = f"transformer.layers.{block}", f"block{block + 1}"
        table |= _affine(f"{key}.0.norm", ("mixer", f"{name}_attention_norm"), (TOKEN,))
        qkv = ("mixer", f"{name}_qkv")
        table |= _dense(f"{key}.0.fn.to_qkv", qkv, TOKEN, 3 * INNER, bias=False)
        table |= _dense(f"{key}.0.fn.to_out.0", ("mixer", f"{name}_out"), INNER, TOKEN)
        table |= _affine(f"{key}.1.norm", ("mixer", f"{name}_mlp_norm"), (TOKEN,))
        table |= _dense(f"{key}.1.fn.net.0", ("mixer", f"{name}_mlp_in"), TOKEN, HIDDEN)
        table |= _dense(f"{key}.1.fn.net.3", ("mixer", f"{name}_mlp_out"), HIDDEN, TOKEN)
    return table


_FILTERS = _Entry((), (30, 1, 5, 5), _same)
_FILTERS_KEY = "group1.hpf.weight"


def _prefixed(table: dict[str, _Entry], key: str, *path: str) -> dict[str, _Entry]:
    return {
        f"{key}{k}": e._replace(path=(*path, *e.path) if e.path else ()) for k, e in table.items()
    }


def _network(key: str, *path: str) -> dict[str, _Entry]:
    return _prefixed(_extractor_table() | {_FILTERS_KEY: _FILTERS}, key, *path)


def _pretext_table() -> dict[str, _Entry]:
    table = _network("backbone.", "extractor")
    for index, target in enumerate(RELEASED_TARGETS):
        table |= _dense(f"fc{index + 1}", ("heads", target.name), TOKEN, target.size)
    return table


def _binary_table() -> dict[str, _Entry]:
    table = _network("diffusionextractor_pretrained.", "teacher")
    table |= _network("diffusionextractor_random.", "extractor")
    return table | dict(_dense("fc", ("head", "fc"), TOKEN, 2))


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a `.pth` file (a PyTorch dict with `state_net`) or of an `.npz` file.

    Nothing in the file is executed: PyTorch loads with `weights_only=True`, NumPy without pickle.

    Raises:
        UserError: the file cannot be read, holds no weights, or PyTorch is not installed.
    """
    if path.suffix == ".npz":
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except Exception as error:  # damaged archives raise many types
            raise UserError(f"{path}: not a readable .npz file ({error})") from error
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: reading a PyTorch checkpoint needs PyTorch: pip install 'exif-jax[torch]'"
        ) from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types, pickle's among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a PyTorch checkpoint of plain weights ({reason})") from error
    state = checkpoint.get("state_net") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise UserError(
            f"{path}: holds no dict 'state_net' of tensors; is it a released SDAIE checkpoint?"
        )
    return {
        str(key): value.numpy() if value.dtype != torch.bfloat16 else value.float().numpy()
        for key, value in state.items()
    }


def import_weights(arrays: Mapping[str, np.ndarray], source: str) -> tuple[str, Params]:
    """Parameters from named arrays of the released layout, every key and shape checked.

    Args:
        arrays: released key -> array of any float type; a leading `module.` may be missing.
        source: name of the file, for the error message.

    Returns:
        ("pretext", {"extractor", "heads"}) or ("binary", {"extractor", "teacher", "head"}): nested
        dicts of float32 arrays in the layout of our modules.

    Raises:
        UserError: lists every key that is missing, unknown, of the wrong shape or not finite, and
            fixed filters that differ from the published ones.
    """
    arrays = {key.removeprefix("module."): np.asarray(value) for key, value in arrays.items()}
    binary = any(key.startswith("diffusionextractor_") for key in arrays)
    table = _binary_table() if binary else _pretext_table()
    problems = [f"missing: {key}" for key in table if key not in arrays]
    problems += [f"unknown: {key}" for key in arrays if key not in table]
    params: Params = {}
    for key, entry in table.items():
        if key not in arrays:
            continue
        value = arrays[key]
        if value.shape != entry.shape:
            problems.append(f"wrong shape: {key} is {value.shape}, expected {entry.shape}")
        elif not (np.issubdtype(value.dtype, np.floating) and np.isfinite(value).all()):
            problems.append(f"not finite numbers: {key}")
        elif not entry.path:
            filters = srm_kernels().transpose(2, 0, 1)[:, None]
            if not np.allclose(value, filters, atol=1e-3):
                problems.append(f"other filters than the published ones: {key}")
        else:
            *parents, leaf = entry.path
            node = params
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = np.ascontiguousarray(entry.transform(value.astype(np.float32)))
    if problems:
        listing = "\n  ".join(problems)
        raise UserError(
            f"{source}: {len(problems)} keys do not fit the released layout:\n  {listing}"
        )
    return ("binary" if binary else "pretext"), params
