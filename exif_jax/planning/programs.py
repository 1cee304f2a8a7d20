"""The programs of a stage: what training, feature extraction and EM compile, for other devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import UserError
from data_pipelines.images import PATCH, WINDOW
from data_pipelines.object_storage import path_of
from data_pipelines.photo_sources import open_photos
from data_pipelines.records import open_records
from data_pipelines.staging import staged
from data_pipelines.targets import coded_targets
from exif_jax.config import BinaryConfig, EncoderConfig, OneClassConfig, PretextConfig
from exif_jax.detection.features import (
    default_chunk,
    divisible,
    feature_functions,
    mixed_rows,
)
from exif_jax.gmm.frame import Frame, Moments
from exif_jax.gmm.maximisation import next_state
from exif_jax.gmm.program import Program as EMProgram
from exif_jax.gmm.rows import Layout
from exif_jax.models.extractor import (
    Extractor,
    FixedExtractor,
    apply,
    extractor_shapes,
)
from exif_jax.models.trained import load_extractor
from exif_jax.objectives import Objective, TagObjective, build_objectives
from exif_jax.planning.topologies import Topology
from exif_jax.stages import binary, one_class, pretext
from exif_jax.stages.mixture_candidates import candidate_numbers, candidate_structures
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh

PUBLISHED_PHOTOS = 900_000
_CELLS = (WINDOW // PATCH) ** 2  # patches of an image in training and in features
_BYTES = 8  # of a feature in memory, as the one-class stage reckons


@dataclass(frozen=True)
class Program:
    """One compiled function.

    Attributes:
        name: of it.
        what: it does, in words.
        devices: that run it together.
        hosts: that these belong to.
        images: that one call takes.
        lower: gives what is to be compiled.
        in_step: whether it belongs to what `config.steps` counts.
    """

    name: str
    what: str
    devices: int
    hosts: int
    images: int
    lower: Callable[[], jax.stages.Lowered]
    in_step: bool = False


@dataclass(frozen=True)
class Planned:
    """The programs of a stage.

    Attributes:
        stage: its name.
        programs: those of the step first.
        extractor: that they hold.
        assumptions: what was not given and had to be assumed, in words.
    """

    stage: str
    programs: tuple[Program, ...]
    extractor: Extractor
    assumptions: tuple[str, ...]


def planned(config: Any, topology: Topology, model: EncoderConfig | None) -> Planned:
    """The programs of a configuration's stage.

    Args:
        config: of the stage.
        topology: to compile for.
        model: of the extractor, where the stage starts from one and `config.extractor` is empty;
            None: the published network.

    Raises:
        UserError: a field out of range, records or an extractor that cannot be read, or a
            configuration of no stage.
    """
    match config:
        case PretextConfig():
            return _pretext(config, topology)
        case BinaryConfig():
            return _binary(config, topology, model)
        case OneClassConfig():
            return _one_class(config, topology, model)
    raise UserError(
        f"--config gives a {type(config).__name__}, which has no step to plan: give that of a "
        "stage, such as pretext"
    )


def _pretext(config: PretextConfig, topology: Topology) -> Planned:
    mesh = data_mesh(topology.devices)
    pretext.check(config, mesh)
    targets = coded_targets()
    assumptions = ["tags and classes: as many as published (no --config.data.photos)"]
    if config.data.photos:
        targets, assumptions = open_records(path_of(config.data.photos)).targets, []
    objectives = build_objectives(targets, config)
    extractor = config.model.build()
    state = jax.eval_shape(partial(pretext.first_state, config, extractor, objectives))
    step = pretext.mapped_step(config, extractor, objectives, mesh)
    batch = pretext_batch(config, extractor, objectives)
    return Planned(
        "pretext",
        (
            _step(step, state, {}, batch, config.batch_size, topology),
            *_features(extractor, topology, None),
        ),
        extractor,
        tuple(assumptions),
    )


def _binary(config: BinaryConfig, topology: Topology, model: EncoderConfig | None) -> Planned:
    mesh = data_mesh(topology.devices)
    binary.check(config, mesh)
    extractor, assumptions = _extractor(config.extractor, model)
    state = jax.eval_shape(partial(binary.first_state, config, extractor))
    teacher, _ = extractor_shapes(extractor)
    step = binary.mapped_step(config, extractor, mesh)
    batch = binary_batch(config, extractor)
    return Planned(
        "binary",
        (
            _step(step, state, teacher, batch, config.batch_size, topology),
            *_features(extractor, topology, None),
        ),
        extractor,
        assumptions,
    )


def _one_class(config: OneClassConfig, topology: Topology, model: EncoderConfig | None) -> Planned:
    candidates = one_class.check(config)
    extractor, assumptions = _extractor(config.extractor, model)
    devices = one_class.em_devices(topology.devices, config.precision)
    photos = PUBLISHED_PHOTOS
    if config.data.photos:
        photos = len(open_photos(staged(config.data.photos, config.data.cache)))
    else:
        assumptions += (f"photos: {photos}, as published (no --config.data.photos)",)
    hosts = topology.hosts
    if devices is not topology.devices:
        # Of one host, which is here; the others do as much.
        photos, hosts = -(-photos // hosts), 1
        assumptions += (
            "EM in float64 runs on the hosts' CPUs, shown is one with its share of the photos; "
            "--config.precision=float32 is for TPUs",
        )
    if candidates > 1:
        assumptions += (f"of {candidates} mixtures to compare: the first kind, most components",)
    columns = config.pca or extractor_shapes(extractor)[1]
    if _BYTES * photos * columns > config.memory_gib * 2**30 * hosts:
        photos = min(photos, len(devices) * 32768)
        assumptions += (f"more than config.memory_gib: one block of {photos} rows",)
    return Planned(
        "one_class",
        (
            *_em(config, devices, hosts, photos, columns),
            *_features(extractor, topology, 16 * config.batch_size),
        ),
        extractor,
        assumptions,
    )


def _extractor(path: str, model: EncoderConfig | None) -> tuple[Extractor, tuple[str, ...]]:
    from exif_jax.config import PublishedEncoder

    if path:
        return load_extractor(path).module, ()
    if model is not None:
        return model.build(), ("extractor: the model of --pretext",)
    return PublishedEncoder().build(), ("extractor: the published network (no --config.extractor)",)


def pretext_batch(
    config: PretextConfig, extractor: Extractor, objectives: Sequence[Objective]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch as `data_pipelines.pipeline.record_batches` gives it."""
    rows = config.batch_size
    tags = sum(isinstance(objective, TagObjective) for objective in objectives)
    return {
        **_images(rows, extractor),
        "targets": jax.ShapeDtypeStruct((rows, tags), jnp.float32),
        "group": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }


def binary_batch(config: BinaryConfig, extractor: Extractor) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch as `data_pipelines.pipeline.labelled_batches` gives it."""
    rows = config.batch_size
    return {
        **_images(rows, extractor),
        "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((rows,), jnp.float32),
    }


def _images(rows: int, extractor: Extractor) -> dict[str, jax.ShapeDtypeStruct]:
    if isinstance(extractor, FixedExtractor):
        length = _tokens(extractor, "pool").shape[-1]
        return {"description": jax.ShapeDtypeStruct((rows, length), jnp.float32)}
    return {
        "image": jax.ShapeDtypeStruct((rows, WINDOW, WINDOW, 3), jnp.uint8),
        "size": jax.ShapeDtypeStruct((rows, 2), jnp.int32),
    }


def _tokens(extractor: Extractor, method: str | None = None) -> jax.ShapeDtypeStruct:
    """Shape of the token of one patch; with a method, of what this makes of it."""
    params, _ = extractor_shapes(extractor)

    def run(params: Any) -> Any:
        tokens = apply(extractor, params, jnp.zeros((1, PATCH, PATCH, 3)), method="encode")[0]
        return apply(extractor, params, tokens[None], method=method) if method else tokens

    shape: jax.ShapeDtypeStruct = jax.eval_shape(run, params)
    return shape


def _step(step: Any, state: Any, frozen: Any, batch: Any, rows: int, topology: Topology) -> Program:
    mesh = data_mesh(topology.devices)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def lower() -> jax.stages.Lowered:
        shared = (_on(mesh, REPLICATED, tree) for tree in (state, frozen))
        lowered: jax.stages.Lowered = step.lower(
            *shared, _on(mesh, SHARDED, batch), _on(mesh, REPLICATED, key)
        )
        return lowered

    return Program("step", "a training step", mesh.size, topology.hosts, rows, lower, True)


def _features(
    extractor: Extractor, topology: Topology, chunk: int | None
) -> tuple[Program, Program]:
    """The halves of feature extraction, which every process does with its own devices."""
    mesh = data_mesh(topology.host_devices)
    functions = feature_functions(extractor, mesh)
    params, _ = extractor_shapes(extractor)
    chunk = divisible(chunk or default_chunk(extractor, mesh), mesh)
    rows = mixed_rows(_CELLS, mesh.size)
    token = _tokens(extractor)
    shared = _on(mesh, REPLICATED, params)
    patches = jax.ShapeDtypeStruct((chunk, PATCH, PATCH, 3), jnp.uint8)
    tokens = jax.ShapeDtypeStruct((rows, _CELLS, token.shape[-1]), token.dtype)
    mask = jax.ShapeDtypeStruct((rows, _CELLS), jnp.bool_)
    whole = max(1, chunk // _CELLS)

    def encode() -> jax.stages.Lowered:
        return functions.encode.lower(shared, _on(mesh, SHARDED, patches))  # type: ignore[attr-defined]

    def mix() -> jax.stages.Lowered:
        return functions.mix.lower(shared, *_on(mesh, SHARDED, (tokens, mask)))  # type: ignore[attr-defined]

    return (
        Program("encode", f"tokens of {chunk} patches", mesh.size, 1, whole, encode),
        Program("mix", f"features of {rows} images from their tokens", mesh.size, 1, rows, mix),
    )


def _em(
    config: OneClassConfig,
    devices: Sequence[jax.Device],
    hosts: int,
    photos: int,
    columns: int,
) -> tuple[Program, Program]:
    """An iteration of EM: statistics of all rows on their devices, then the M-step."""
    structure = candidate_structures(config)[0]
    components = max(candidate_numbers("num_components", config.num_components))
    mesh = data_mesh(devices)
    layout = Layout.of(-(-photos // mesh.size), devices[0].platform)
    program = EMProgram(mesh, structure, layout)
    dtype = np.dtype(config.precision)
    moments = Moments(photos, np.zeros(columns), photos * _identity(structure.keeps, columns))
    regulariser = Frame.of(moments, structure, config.reg_covar).regulariser

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    rows = mesh.size * layout.rows
    x, mask = _on(mesh, SHARDED, (shape(rows, columns), shape(rows)))
    with jax.enable_x64(config.precision == "float64"):
        first = EMProgram.first.mapped(program)
        weighted, small = shape(rows, components), shape(*regulariser.shape)
        state = _on(mesh, REPLICATED, jax.eval_shape(first, x, weighted, small))
        compute = EMProgram.statistics.mapped(program)
        statistics = _on(mesh, REPLICATED, jax.eval_shape(compute, state.gmm, x, mask))

    def e_step() -> jax.stages.Lowered:
        with jax.enable_x64(config.precision == "float64"):
            lowered: jax.stages.Lowered = compute.lower(state.gmm, x, mask)
        return lowered

    def m_step() -> jax.stages.Lowered:
        with jax.enable_x64(config.precision == "float64"):
            return next_state.lower(
                structure, state, statistics, *_on(mesh, REPLICATED, (small, shape()))
            )

    what = f"statistics of {photos} rows, an EM iteration's E-step"
    return (
        Program("e_step", what, mesh.size, hosts, photos, e_step, True),
        Program("m_step", "an EM iteration's M-step", mesh.size, hosts, photos, m_step, True),
    )


def _identity(keeps: str, columns: int) -> np.ndarray:
    return np.eye(columns) if keeps == "any" else np.ones(columns)


def _on(mesh: Mesh, spec: PartitionSpec, tree: Any) -> Any:
    """The shapes of a tree, laid out over the mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
