"""One-class stage: density of the features of photographs, threshold from photos not fitted."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import write_text
from data_pipelines.images import ImageError
from data_pipelines.photo_sources import ImageSource, open_photos
from data_pipelines.splits import split_groups
from exif_jax import gmm
from exif_jax.config import (
    OneClassConfig,
    check_choice,
    check_not_negative,
    check_positive,
    check_set,
)
from exif_jax.detection.detectors import save_detector
from exif_jax.detection.features import extract_features, feature_functions
from exif_jax.detection.kinds import OneClass, project
from exif_jax.detection.thresholds import (
    ThresholdRule,
    fitting_percentile_threshold,
    quantile_threshold,
)
from exif_jax.gmm.selection_plot import selection_plot
from exif_jax.models.storage import Tree, flatten
from exif_jax.models.trained import LoadedExtractor, load_extractor
from exif_jax.training.curves import training_curves
from exif_jax.training.mapping import data_mesh, replicate
from exif_jax.training.runs import MetricsLog, open_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Rows of the features by use: to fit, to choose the components by, to set the threshold by."""

    fit: np.ndarray
    choose: np.ndarray
    threshold: np.ndarray


def principal_projection(features: np.ndarray, dimensions: int) -> Tree:
    """Centring and scaling to unit variance, onto principal components if asked.

    Args:
        features: [n, T] to learn it from.
        dimensions: principal components kept; 0: every coordinate, each scaled on its own.

    Returns:
        {"mean": float64 [T], "matrix": float64 [T, d]} for `project`. Scaling makes the mixture's
        regularisation relative; directions without variance are left unscaled.

    Raises:
        UserError: a negative number of dimensions, or more than features or rows allow.
    """
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    if not dimensions:
        deviation = features.std(axis=0)
        return {"mean": mean, "matrix": np.diag(1 / np.where(deviation > 0, deviation, 1))}
    most = min(features.shape[1], len(features) - 1)
    if not 0 < dimensions <= most:
        raise UserError(
            f"config.pca = {dimensions} must lie between 0 and {most}, which is what "
            f"{len(features)} photos of {features.shape[1]} numbers allow"
        )
    _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
    deviation = singular[:dimensions] / np.sqrt(len(features))
    return {
        "mean": mean,
        "matrix": directions[:dimensions].T / np.where(deviation > 0, deviation, 1),
    }


def candidate_numbers(field: str, text: str) -> list[int]:
    """Numbers to try: "5", "1,2,5", "1-8", or several of these.

    Raises:
        UserError: anything else, with the name of the field.
    """
    counts: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            counts |= set(range(int(first), int(last) + 1)) if dash else {int(first)}
    except ValueError as error:
        raise UserError(
            f"config.{field} = {text!r}: give a number such as 5, or candidates such as 1,2,5 or "
            "1-8"
        ) from error
    if not counts or min(counts) < 1:
        raise UserError(f"config.{field} = {text!r}: give numbers from 1")
    return sorted(counts)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _em_mesh() -> Mesh:
    """Devices of this process for EM in float64: TPUs have none, so there the host's CPU serves."""
    local = jax.local_devices()
    return data_mesh(local if local[0].platform != "tpu" else jax.local_devices(backend="cpu"))


def _features(
    config: OneClassConfig, extractor: LoadedExtractor, photos: Sequence[ImageSource], workdir: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, T] of the readable photos and their positions; finished parts are kept on disk.

    Unreadable photos are listed in skipped.jsonl.
    """
    functions = feature_functions(extractor.module, data_mesh(jax.local_devices()))
    params = replicate(extractor.params, functions.mesh)
    network = hashlib.sha256(b"".join(x.tobytes() for x in flatten(extractor.params).values()))
    size = config.batch_size * config.checkpoint_every
    folder = workdir / "features"
    folder.mkdir(exist_ok=True)
    features, positions, skipped = [], [], []
    with tqdm(total=len(photos), unit="photo", desc="features", disable=None) as progress:
        for start in range(0, len(photos), size):
            part = photos[start : start + size]
            # Named after what it holds: other photos or another network by now mean another file.
            names = "\n".join(photo.path for photo in part).encode("utf-8", "surrogateescape")
            digest = hashlib.sha256(network.digest() + names).hexdigest()[:16]
            path = folder / f"{start:09d}-{digest}.npz"
            if path.exists():
                progress.update(len(part))
            else:
                errors: dict[int, str] = {}
                images = _readable(part, errors, progress)
                chunk = 16 * config.batch_size
                computed = extract_features(functions, params, images, chunk, config.data.patches)
                _save_part(path, computed, errors)
            with np.load(path, allow_pickle=False) as saved:
                unread = {start + int(i): reason for i, reason in json.loads(str(saved["errors"]))}
                if len(saved["features"]):
                    features.append(saved["features"])
            positions += [i for i in range(start, start + len(part)) if i not in unread]
            skipped += [{"path": photos[i].path, "reason": unread[i]} for i in unread]
    listing = workdir / "skipped.jsonl"
    write_text(listing, "".join(json.dumps(row) + "\n" for row in skipped))
    if skipped:
        _log.warning("skipped %d unreadable photos, see %s", len(skipped), listing)
    if not features:
        raise UserError(f"{config.data.photos}: none of {len(photos)} photos could be read")
    return np.concatenate(features), np.array(positions)


def _readable(
    photos: Sequence[ImageSource], errors: dict[int, str], progress: tqdm
) -> Iterator[np.ndarray]:
    """Decoded photos; the reasons of unreadable ones go to `errors`, by position."""
    for position, photo in enumerate(photos):
        progress.update()
        try:
            yield photo.read()
        except ImageError as error:
            errors[position] = str(error)


def _save_part(path: Path, features: np.ndarray, errors: dict[int, str]) -> None:
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, features=features, errors=json.dumps(list(errors.items())))
    temporary.replace(path)


def _divide(photos: Sequence[ImageSource], config: OneClassConfig, choosing: bool) -> Parts:
    """Divides photos by use, groups (windows of one photo, bursts) undivided.

    Prepared records bring their own held-out split, which the extractor has not seen either: it
    sets the threshold. Otherwise `heldout_fraction` of the photos are kept from fitting.
    """
    groups = [photo.group for photo in photos]
    held = np.array([photo.heldout for photo in photos])
    fraction = config.heldout_fraction
    if not held.any():
        held = np.array(split_groups(groups, fraction / 2 if choosing else fraction, config.seed))
        fraction /= 2
    fit, choose = ~held, np.zeros(len(photos), bool)
    if choosing:
        choose = np.array(split_groups(groups, fraction, config.seed + 1)) & ~held
        fit &= ~choose
    parts = Parts(*(np.flatnonzero(part) for part in (fit, choose, held)))
    if not len(parts.fit) or not len(parts.threshold) or (choosing and not len(parts.choose)):
        raise UserError(
            f"config.data.photos: {len(photos)} photos are too few to keep "
            f"config.heldout_fraction = {config.heldout_fraction} of them from fitting"
        )
    return parts


def _structures(config: OneClassConfig) -> list[gmm.Structure]:
    kinds, shrinkages = _words(config.covariance_type), _words(config.shrinkage)
    return gmm.structures(kinds, candidate_numbers("rank", config.rank), shrinkages)


@dataclass(frozen=True)
class Mixture:
    """The chosen mixture, and how it was chosen.

    Attributes:
        fit: to the photos to fit and those to choose by.
        choice: of the candidates; None if there was only one.
        table: of all candidates.
    """

    fit: gmm.Fit
    choice: gmm.Candidate | None
    table: tuple[gmm.Candidate, ...]


def _fit_mixture(x: np.ndarray, parts: Parts, config: OneClassConfig, workdir: Path) -> Mixture:
    """Chooses among the candidates, if there are several, and fits; continues what was begun.

    Writes the history of the training and held-out rows.
    """
    key = jax.random.key(config.seed)
    structures = _structures(config)
    counts = candidate_numbers("num_components", config.num_components)
    options: dict[str, Any] = {
        "n_init": config.restarts,
        "max_iters": config.steps,
        "tol": config.tolerance,
        "reg_covar": config.reg_covar,
        "mesh": _em_mesh(),
    }
    choice: gmm.Candidate | None = None
    table: tuple[gmm.Candidate, ...] = ()
    if len(structures) * len(counts) > 1:
        table = gmm.compare(
            key,
            x[parts.fit],
            counts,
            covariance_type=_words(config.covariance_type),
            rank=candidate_numbers("rank", config.rank),
            shrinkage=_words(config.shrinkage),
            heldout=x[parts.choose],
            checkpoint=workdir / "em" / "candidates",
            **options,
        )
        for row in table:
            _log.info("%s", row.line)
        choice = gmm.best_of(table, config.criterion)
        _log.info("chosen by %s: %s", config.criterion, choice.line)
        selection_plot(table, choice, config.criterion, workdir / "selection.png")
    candidate = choice or gmm.Candidate.of(structures[0], counts[0], x.shape[1])
    held = x[parts.threshold]
    saved = workdir / "em" / "final"
    done = gmm.saved_iterations(saved)  # of all starts, one after another
    with MetricsLog(workdir, done) as log:

        def validate(step: int, mixture: gmm.GaussianMixture) -> None:
            loss = -float(np.asarray(gmm.log_density(mixture, held)).mean())
            log.write(step, "validation", {"loss": loss})

        def observe(_: int, log_likelihood: float, mixture: gmm.GaussianMixture) -> None:
            nonlocal done
            done += 1
            if done % config.log_every == 0:
                log.write(done, "train", {"loss": -log_likelihood})
            if done % config.eval_every == 0:
                validate(done, mixture)

        fit = gmm.fit_candidate(
            key,
            x[np.concatenate([parts.fit, parts.choose])],
            candidate,
            checkpoint=saved,
            observe=observe,
            **options,
        )
        if log.last_step("validation") < done:
            validate(done, fit.gmm)
    for warning in fit.warnings:
        _log.warning("%s", warning)
    return Mixture(fit, choice, table)


def _threshold(
    log_densities: np.ndarray, fitted: np.ndarray, config: OneClassConfig
) -> ThresholdRule:
    """The rule that the configuration names, from held-out photos or, as published, fitted ones."""
    rate = config.false_positive_rate
    if config.threshold_rule == "fitting_percentile":
        return fitting_percentile_threshold(fitted, 100 * rate)
    return quantile_threshold(log_densities, rate)


def run(config: OneClassConfig, workdir: Path) -> None:
    """Fits a one-class detector and writes it to workdir/detector.

    Raises:
        UserError: the configuration, the photos, the extractor or the workdir do not fit.
    """
    candidates = _check(config)
    extractor = load_extractor(config.extractor)
    photos = open_photos(Path(config.data.photos))
    open_run(workdir, config, "one_class")
    if (workdir / "detector").is_dir():
        _log.info("this run is finished: %s is written", workdir / "detector")
        return
    features, positions = _features(config, extractor, photos, workdir)
    parts = _divide([photos[i] for i in positions], config, candidates > 1)
    most = max(candidate_numbers("num_components", config.num_components))
    if most > len(parts.fit):
        raise UserError(
            f"config.num_components = {config.num_components!r}: {len(parts.fit)} photos to fit "
            "are fewer than the components"
        )
    projection = principal_projection(features[parts.fit], config.pca)
    dtype = np.dtype(config.precision)
    x = project(features, projection).astype(dtype)
    try:
        with jax.enable_x64(dtype == np.float64):
            mixture = _fit_mixture(x, parts, config, workdir)
    except ValueError as error:
        raise UserError(f"the mixture cannot be fitted to these photos: {error}") from error
    training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    kind = mixture.fit.gmm.structure.covariance_type
    arrays: Tree = {"projection": projection, "gmm": mixture.fit.gmm.to_arrays()}
    fitted = np.concatenate([parts.fit, parts.choose])
    # In the precision of scores, in which images are compared with the threshold.
    held, known = (
        -OneClass(kind).score(features[rows], arrays).astype(np.float32)
        for rows in (parts.threshold, fitted)
    )
    rule = _threshold(held, known, config)
    if rule.warning:
        _log.warning("%s", rule.warning)
    save_detector(
        workdir / "detector",
        "one_class",
        -rule.threshold,
        extractor,
        {**arrays, "calibration": {"log_density": np.sort(held).astype(np.float64)}},
        {
            "threshold_rule": rule.summary,
            "threshold_details": rule.to_json(),
            "p_values": f"conformal, from calibration/log_density in model.safetensors: {len(held)}"
            " held-out photos",
            "patches": config.data.patches,
            "covariance_type": kind,
            "num_components": len(mixture.fit.gmm.weights),
            "mixture": _facts(mixture),
            "training_data": {
                "photos": config.data.photos,
                "fitted": len(fitted),
                "components_chosen_by": len(parts.choose),
                "threshold_from": len(parts.threshold),
                "unreadable": len(photos) - len(positions),
            },
        },
    )
    shutil.rmtree(workdir / "em", ignore_errors=True)  # states of EM: the detector has the last
    _log.info("threshold %.4f, %s", -rule.threshold, rule.summary)


def _facts(mixture: Mixture) -> dict[str, Any]:
    """How the mixture was fitted and chosen, for detector.json."""
    fit, choice = mixture.fit, mixture.choice
    return {
        "log_likelihood": fit.log_likelihood,
        "iterations": len(fit.history),
        "converged": fit.converged,
        "parameters": fit.gmm.num_parameters,
        "rows_per_parameter": fit.rows_per_parameter,
        "shrinkage": fit.shrinkage.tolist(),
        "warnings": list(fit.warnings),
        "precision": fit.gmm.means.dtype.name,
        "candidates": [{**row.to_json(), "chosen": row is choice} for row in mixture.table],
    }


def _check(config: OneClassConfig) -> int:
    """Raises a UserError for a field out of range; returns the number of candidates."""
    check_set("extractor", config.extractor)
    check_set("data.photos", config.data.photos)
    check_positive(
        config, "batch_size", "steps", "checkpoint_every", "eval_every", "log_every", "restarts"
    )
    check_not_negative(config, "data.patches", "pca", "reg_covar", "tolerance")
    check_choice("criterion", config.criterion, gmm.CRITERIA)
    check_choice("precision", config.precision, ("float64", "float32"))
    check_choice(
        "threshold_rule", config.threshold_rule, ("heldout_quantile", "fitting_percentile")
    )
    for kind in _words(config.covariance_type):
        check_choice("covariance_type", kind, gmm.COVARIANCE_TYPES)
    for shrinkage in _words(config.shrinkage):
        check_choice("shrinkage", shrinkage, gmm.SHRINKAGES)
    if jax.process_count() > 1:
        raise UserError("the one-class stage uses the devices of one process: start only one")
    for name in ("false_positive_rate", "heldout_fraction"):
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"config.{name} = {getattr(config, name)} must lie between 0 and 1")
    return len(_structures(config)) * len(
        candidate_numbers("num_components", config.num_components)
    )
