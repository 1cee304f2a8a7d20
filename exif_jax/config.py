"""Types of the configurations; the files of `configs/` hold their values, one a run.

`batch_size` counts images over all devices and processes. Every field can be set on the command
line: `--config.field=value`, nested ones as `--config.data.patches=8`.
"""

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.perturbations import Augmentation
from data_pipelines.registry import Registry


class EncoderConfig:
    """What `config.model` may be: a dataclass of plain numbers and texts that builds an extractor.

    One's own is a subclass registered by name, which the stored JSON gives:

        @ENCODERS.register("small_vit")
        @dataclass
        class SmallViT(EncoderConfig): ...
    """

    def build(self) -> Any:
        """The Flax module, an `exif_jax.models.extractor.Extractor`.

        Raises:
            UserError: a field out of its range.
        """
        raise NotImplementedError


ENCODERS: Registry[type[EncoderConfig]] = Registry("encoder")


@ENCODERS.register("published")
@dataclass
class PublishedEncoder(EncoderConfig):
    """Size and precision of the published network; the defaults are the paper's."""

    width: int = 32  # channels of every convolution
    stage_depths: tuple[int, ...] = (4, 2, 2, 2)  # convolutions in each stage
    newton_iterations: int = 5  # of the matrix square root
    mixer_blocks: int = 2  # transformer blocks
    mixer_heads: int = 4
    mixer_head_dim: int = 16
    mixer_hidden: int = 128
    # float32: all of it, on every platform. bfloat16: feature maps and the stages' convolutions;
    # residuals stay exact, and parameters, statistics, covariances and the transformer in float32.
    dtype: str = "float32"
    # norms: to save memory, the backward pass keeps only what convolutions give, and computes
    # normalisations and pooling again.
    remat: str = "none"

    def build(self) -> Any:
        """The Flax module."""
        from exif_jax.models.published import build  # flax takes seconds to import

        return build(self)


@ENCODERS.register("residual_covariance")
@dataclass
class ResidualCovarianceEncoder(EncoderConfig):
    """Fixed residual covariances and a small perceptron, for few photographs and no accelerator."""

    features: int = 64  # length of the feature
    hidden: tuple[int, ...] = ()  # units of each hidden layer
    dropout: float = 0.0  # share of the inputs of every layer that training leaves out
    linear: int = 0  # of the features, how many skip the hidden layers
    components: int = 0  # principal components of descriptions that the layers see; 0: no such step
    statistics: tuple[str, ...] = ("magnitude", "energy")  # or residual, of the residual maps
    scales: tuple[int, ...] = (1, 2)  # factors of reduction before filtering: 1 or 2

    def build(self) -> Any:
        """The Flax module."""
        from exif_jax.models.residual_covariance import build  # flax takes seconds to import

        return build(self)


@dataclass
class ObjectivesConfig:
    """What the pretext stage learns; see `exif_jax.objectives`."""

    # Names of tags, `ranked`, `categorical` or `all`, separated by commas; -NAME leaves one out.
    tags: str = "all"
    weights: str = ""  # of tags in the loss, such as FNumber=2,Make=0.5; 1 where not given
    # Objects of one's own, in a configuration file; one with a tag's name takes its place.
    extra: tuple[Any, ...] = ()


@dataclass
class OptimizerConfig:
    """Any optax optimizer; see `exif_jax.training.optimizers`."""

    name: str = "adam"  # adamw, lion, sgd, ...
    learning_rate: float = 1e-4
    arguments: str = ""  # further ones of the optimizer, such as b1=0.9,b2=0.95
    weight_decay: float = 0.0  # of kernels; normalisations and biases never decay
    schedule: str = "constant"  # or cosine: to zero at the last step
    warmup_steps: int = 0  # linear from zero
    clip_norm: float = 0.0  # largest norm of the gradient; 0: no clipping
    # Decay of an exponential moving average of the parameters, which is evaluated and exported
    # instead of them, such as 0.999; 0: none.
    ema: float = 0.0


@dataclass
class RecordsConfig:
    """Photos prepared by `exif-jax prepare`."""

    photos: str = ""  # directory of the prepared records: local, gs:// or s3://
    patches: int = 16  # random crops of each image in a batch
    threads: int = 8  # decoding threads of each process, where workers are 0
    # Processes that decode, of each process; 0: threads do, which share one interpreter's lock.
    workers: int = 0
    # Of encoders with a fixed description, such as residual_covariance, which is computed once:
    versions: int = 0  # augmented versions of each image, see data_pipelines.augmentation
    prepare: str = "none"  # what happens to every image, here and in use, such as jpeg:90
    descriptions: str = ""  # folder to keep them in; by default beside the records
    # Folder for the local copy of records in object storage; by default in the user's cache.
    cache: str = ""


@dataclass
class PretextConfig:
    """Self-supervised pretraining on photographs (paper's first stage)."""

    steps: int = 1000  # of training
    batch_size: int = 64  # images, global
    # Parts in which every device takes its images, one after the other: the numbers of an undivided
    # batch with the memory of a part, so a run of many devices repeats on few.
    accumulate: int = 1
    seed: int = 0
    checkpoint_every: int = 500  # steps; one more comes before every evaluation
    checkpoint_minutes: float = 0.0  # at most between two checkpoints; 0: only steps count
    hang_minutes: float = 30.0  # that a step may take, compilation too, before the run ends; 0: any
    eval_every: int = 500
    log_every: int = 20
    profile_steps: str = ""  # to trace for xprof and TensorBoard, such as 100-105
    trackers: str = ""  # services that get the numbers, too: wandb,mlflow; see docs/telemetry.md
    ranking: str = "all_pairs"  # of the batch; or neighbour: each photo with the next
    pair_loss: str = "bce"  # or fidelity
    # What is measured every `eval_every` steps, NAME or NAME:ARGUMENT, separated by commas, such as
    # heldout_tags,linear_probe:LABELLED,knn:LABELLED; see `exif_jax.evaluation.evaluators`.
    evaluators: str = "heldout_tags"
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    data: RecordsConfig = field(default_factory=RecordsConfig)
    model: EncoderConfig = field(default_factory=PublishedEncoder)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass
class PhotosConfig:
    """Photographs to fit the density of."""

    photos: str = ""  # directory of photos, or of prepared records
    patches: int = 0  # at most this many grid cells of an image, evenly spread; 0: all
    prepare: str = ""  # see `RecordsConfig`; by default as for the extractor
    # Folder for fixed descriptions; by default beside the records, or in the workdir.
    descriptions: str = ""
    cache: str = ""  # see `RecordsConfig`


@dataclass
class OneClassConfig:
    """Gaussian mixture over the features of photographs (paper's second stage)."""

    extractor: str = ""  # run, or converted directory, of the pretext stage
    steps: int = 200  # EM iterations, at most
    batch_size: int = 16  # images whose features are computed together
    seed: int = 0
    checkpoint_every: int = 64  # batches of images: finished features are saved so often
    eval_every: int = 1  # EM iterations between entries of the validation split
    log_every: int = 1  # EM iterations between entries of the training split
    num_components: str = "5"  # or candidates to choose from: 1-8, or 1,2,5
    covariance_type: str = "full"  # tied, diag, spherical, low_rank; or candidates: full,low_rank
    rank: str = "8"  # free directions of low_rank covariances; or candidates: 8,32,128
    shrinkage: str = "none"  # or ledoit_wolf (full, tied); or candidates: none,ledoit_wolf
    criterion: str = "heldout"  # that chooses among candidates: heldout log-likelihood, bic or aic
    pca: int = 0  # first project to that many principal components; 0: keep all dimensions
    reg_covar: float = 1e-6  # added to the diagonal of every covariance, relative to unit variance
    tolerance: float = 1e-3  # EM stops when the mean log-likelihood gains less
    restarts: int = 1  # starts of EM, of which the likeliest result is kept
    precision: str = "float64"  # of the mixture; or float32, as right and faster, also on TPUs
    memory_gib: float = 8.0  # features that take more are read from disk for every EM iteration
    threshold_rule: str = "heldout_quantile"  # or fitting_percentile, the published one
    false_positive_rate: float = 0.05  # of photos, at the threshold (published: 0.02)
    heldout_fraction: float = 0.3  # of photos, kept from fitting; half of them set the threshold
    data: PhotosConfig = field(default_factory=PhotosConfig)


@dataclass
class LabelledConfig:
    """Photographs and generated images in labelled folders or a list."""

    images: str = ""  # labelled directory or CSV list (see docs/labelled.md)
    layout: str = ""  # of the directory, such as splits or pairs:train; found out where not given
    patches: int = 16  # random crops of each image in a batch
    threads: int = 8  # decoding threads of each process, where workers are 0
    # Processes that decode, of each process; 0: threads do, which share one interpreter's lock.
    workers: int = 0
    validation_fraction: float = 0.1  # of the images of each class, kept from training
    augmentation: Augmentation = field(default_factory=Augmentation)
    # See `RecordsConfig`. An encoder with a fixed description does not read `augmentation`.
    versions: int = 0
    prepare: str = ""  # by default as for the extractor
    descriptions: str = ""  # by default in the workdir


@dataclass
class BinaryConfig:
    """Network told to separate photographs from generated images (paper's third stage)."""

    extractor: str = ""  # run, or converted directory, of the pretext stage: the frozen teacher
    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1  # see `PretextConfig`
    seed: int = 0
    checkpoint_every: int = 200  # see `PretextConfig`
    checkpoint_minutes: float = 0.0
    hang_minutes: float = 30.0
    eval_every: int = 200
    log_every: int = 20
    profile_steps: str = ""
    trackers: str = ""
    alpha: float = 0.05  # weight of the distance to the teacher's intermediate features
    threshold: float = 0.5  # probability of `generated` from which an image is called that
    data: LabelledConfig = field(default_factory=LabelledConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3))


@dataclass
class TestImagesConfig:
    """Labelled images to evaluate on."""

    __test__ = False
    # Labelled directory or CSV list; every top folder with a pair of classes is a test set, see
    # docs/labelled.md.
    images: str = ""
    layout: str = ""  # of the directory, such as splits or pairs:val; found out where not given


@dataclass
class EvaluationConfig:
    """Every detector on every test set under every perturbation."""

    detectors: str = ""  # detector directories, separated by commas
    perturbations: str = "none"  # separated by commas: none,jpeg:95,blur:1.0,resize:0.5+jpeg:80
    batch_size: int = 16  # images read and scored together
    data: TestImagesConfig = field(default_factory=TestImagesConfig)


TrainingConfig = PretextConfig | OneClassConfig | BinaryConfig


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as JSON-serialisable nested dicts, tuples as lists; encoders are named."""

    def plain(value: Any) -> Any:
        if isinstance(value, EncoderConfig):
            return {"encoder": _name(value), **fields(value)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return fields(value)
        return [plain(x) for x in value] if isinstance(value, list | tuple) else value

    def fields(value: Any) -> dict[str, Any]:
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}

    result: dict[str, Any] = plain(config)
    return result


def _name(encoder: EncoderConfig) -> str:
    for name in ENCODERS.names():
        if ENCODERS[name] is type(encoder):
            return name
    kind = type(encoder).__name__
    raise UserError(f"config.model: {kind} is not registered: decorate it with @ENCODERS.register")


def encoder_from_json(facts: Mapping[str, Any]) -> EncoderConfig:
    """The configuration of an encoder from its JSON form, which may be older than other encoders.

    Raises:
        UserError: the encoder is not known here.
        TypeError: it has no such fields.
    """
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return ENCODERS[str(fields.pop("encoder", "published"))](**fields)


def pairs(name: str, text: str) -> dict[str, float]:
    """Reads "a=1,b=2.5".

    Raises:
        UserError: anything else, with the name of the field.
    """
    result = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, number = (piece.strip() for piece in part.partition("="))
        try:
            result[key] = float(number)
        except ValueError as error:
            raise UserError(
                f"config.{name} = {text!r}: {part!r} is not NAME=NUMBER; write a=1,b=2.5"
            ) from error
    return result


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {dotted name: value}."""
    result: dict[str, Any] = {}
    for name, value in config.items():
        result |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return result


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises a UserError unless the field's value is one of the choices."""
    if value not in choices:
        raise UserError(f"config.{name} = {value!r} is not known: choose {' or '.join(choices)}")


def check_set(name: str, value: str) -> None:
    """Raises a UserError if a field that has no default was left empty."""
    if not value:
        raise UserError(f"config.{name} is not set: give --config.{name}=...")


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raises a UserError unless a value is a whole number within limits.

    A file may state any, and what a network repeats a billion times is never built to its end.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"config.{name} = {reprlib.repr(value)}: not a whole number from {low} to {high}"
        )


def check_positive(config: Any, *names: str) -> None:
    """Raises a UserError unless each of the fields is greater than zero."""
    for name in names:
        value = flat(to_json(config))[name]
        if not value > 0:
            raise UserError(f"config.{name} = {value} must be greater than zero")


def check_not_negative(config: Any, *names: str) -> None:
    """Raises a UserError if one of the fields is less than zero."""
    for name in names:
        value = flat(to_json(config))[name]
        if not value >= 0:
            raise UserError(f"config.{name} = {value} must not be less than zero")
