"""One-class stage: density of the features of photographs, threshold from photos not fitted."""

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load, save

from data_pipelines.errors import UserError
from data_pipelines.files import write_bytes
from data_pipelines.fingerprints import fingerprint_of_photos
from data_pipelines.mirrors import shown, synchronise
from data_pipelines.photo_sources import open_photos
from data_pipelines.staging import staged
from exif_jax import gmm
from exif_jax.config import (
    OneClassConfig,
    check_choice,
    check_not_negative,
    check_positive,
    check_set,
)
from exif_jax.detection.detectors import DESCRIPTION, save_detector
from exif_jax.detection.kinds import OneClass
from exif_jax.detection.projection import principal_projection, project
from exif_jax.detection.thresholds import fitting_percentile_threshold, quantile_threshold
from exif_jax.figures import save as save_figure
from exif_jax.gmm.selection_plot import selection_curves
from exif_jax.models.storage import Tree, flatten
from exif_jax.models.trained import load_extractor
from exif_jax.stages.descriptions import preparation
from exif_jax.stages.mixture_candidates import candidate_numbers, candidate_structures
from exif_jax.stages.photo_features import Chunks, PhotoFeatures, own_rows, photo_features
from exif_jax.stages.photo_parts import Parts, divide
from exif_jax.training.curves import training_curves
from exif_jax.training.mapping import data_mesh
from exif_jax.training.runs import MetricsLog, open_run
from exif_jax.training.shares import first_alone, gather, in_order, section

_log = logging.getLogger(__name__)
_SYNCHRONISED = 60.0  # seconds of EM that a killed run in object storage may lose


def em_devices(devices: Sequence[jax.Device], precision: str) -> Sequence[jax.Device]:
    """Devices for EM, in place of those given: TPUs have no float64, there their hosts serve."""
    if precision == "float64" and devices[0].platform == "tpu":
        return jax.devices("cpu")
    return devices


class MixtureRows:
    """This process's rows of the mixture: features projected, in memory or read again and again."""

    def __init__(self, features: PhotoFeatures, projection: Tree, precision: str) -> None:
        """Projects features that are in memory."""
        self._features, self._projection = features, projection
        self._dtype = np.dtype(precision)
        self.columns = projection["matrix"].shape[1]
        whole = features.in_memory
        self._in_memory = None if whole is None else self._project(whole)

    def of(self, *rows: np.ndarray) -> np.ndarray | gmm.Stream:
        """Its section of those of some photos, one array of them after the other."""
        own, total = own_rows(*rows), sum(map(len, rows))
        if self._in_memory is not None:
            return self._in_memory[np.concatenate(own)]

        def read() -> Iterator[np.ndarray]:
            return (self._project(chunk) for chunk in self._features.chunks(*own))

        if self._features.fits or total < jax.process_count():  # a stream has at least one row
            return np.concatenate([np.zeros((0, self.columns), self._dtype), *read()])
        return gmm.Stream(Chunks(read), first=section(total).start)

    def _project(self, features: np.ndarray) -> np.ndarray:
        return project(features, self._projection).astype(self._dtype)


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


def _fit_mixture(x: MixtureRows, parts: Parts, config: OneClassConfig, workdir: Path) -> Mixture:
    """Chooses among the candidates, if there are several, and fits; continues what was begun.

    Writes the history of the training and held-out rows.
    """
    mesh = data_mesh(em_devices(jax.devices(), config.precision))
    key = jax.random.key(config.seed)
    structures = candidate_structures(config)
    counts = candidate_numbers("num_components", config.num_components)
    options: dict[str, Any] = {
        "n_init": config.restarts,
        "max_iters": config.steps,
        "tol": config.tolerance,
        "reg_covar": config.reg_covar,
        "mesh": mesh,
    }
    choice: gmm.Candidate | None = None
    table: tuple[gmm.Candidate, ...] = ()
    if len(structures) * len(counts) > 1:
        table = gmm.compare(
            key,
            x.of(parts.fit),
            structures,
            counts,
            heldout=x.of(parts.choose),
            checkpoint=workdir / "em" / "candidates",
            **options,
        )
        for row in table:
            _log.info("%s", row.line)
        choice = gmm.best_of(table, config.criterion)
        _log.info("chosen by %s: %s", config.criterion, choice.line)
        curves = partial(selection_curves, table, choice, config.criterion)
        first_alone(lambda: save_figure(curves(), workdir / "selection.png"))
    candidate = choice or gmm.Candidate.of(structures[0], counts[0], x.columns)
    held = x.of(parts.threshold)
    saved = workdir / "em" / "final"
    done = gmm.saved_iterations(saved)  # of all starts, one after another
    with MetricsLog(workdir, done) as log:

        def validate(step: int, mixture: gmm.GaussianMixture) -> None:
            log.write(step, "validation", {"loss": -gmm.mean_log_density(mixture, held, mesh)})

        def observe(_: int, log_likelihood: float, mixture: gmm.GaussianMixture) -> None:
            nonlocal done
            done += 1
            synchronise(workdir, every=_SYNCHRONISED)
            if done % config.log_every == 0:
                log.write(done, "train", {"loss": -log_likelihood})
            if done % config.eval_every == 0:
                validate(done, mixture)

        fitted = x.of(parts.fit, parts.choose)
        fit = gmm.fit_candidate(
            key, fitted, candidate, checkpoint=saved, observe=observe, **options
        )
        if log.last_step("validation") < done:
            validate(done, fit.gmm)
    for warning in fit.warnings:
        _log.warning("%s", warning)
    return Mixture(fit, choice, table)


def run(config: OneClassConfig, workdir: Path) -> None:
    """Fits a one-class detector and writes it to workdir/detector.

    Raises:
        UserError: the configuration, the photos, the extractor or the workdir do not fit.
    """
    candidates = _check(config)
    extractor = load_extractor(config.extractor)
    prepare = preparation(config.data.prepare, extractor.prepare)
    extractor = dataclasses.replace(extractor, prepare=prepare)
    source = staged(config.data.photos, config.data.cache)
    photos = open_photos(source)
    open_run(
        workdir,
        config,
        "one_class",
        lambda: {
            "data.photos": fingerprint_of_photos(source, (photo.path for photo in photos)),
            "extractor": extractor.fingerprint(),
        },
    )
    if (workdir / "detector" / DESCRIPTION).is_file():
        _log.info("this run is finished: %s is written", shown(workdir / "detector"))
        return
    features = photo_features(config, extractor, source, photos, workdir)
    read = [photos[i] for i in features.positions]
    groups, heldout = [photo.group for photo in read], [photo.heldout for photo in read]
    parts = divide(groups, heldout, config, candidates > 1)
    most = max(candidate_numbers("num_components", config.num_components))
    if most > len(parts.fit):
        raise UserError(
            f"config.num_components = {config.num_components!r}: {len(parts.fit)} photos to fit "
            "are fewer than the components"
        )
    projection = _projection(features, parts.fit, config.pca, workdir / "em")
    rows = MixtureRows(features, projection, config.precision)
    try:
        with jax.enable_x64(config.precision == "float64"):
            mixture = _fit_mixture(rows, parts, config, workdir)
    except ValueError as error:
        raise UserError(f"the mixture cannot be fitted to these photos: {error}") from error
    first_alone(lambda: training_curves(workdir / "metrics.jsonl", workdir / "curves.png"))
    kind = mixture.fit.gmm.structure.covariance_type
    arrays: Tree = {"projection": projection, "gmm": mixture.fit.gmm.to_arrays()}

    def log_densities(*rows: np.ndarray) -> np.ndarray:
        own = features.chunks(*own_rows(*rows))
        scores = [np.zeros(0), *(OneClass(kind).score(chunk, arrays) for chunk in own)]
        # In the precision of scores, in which images are compared with the threshold.
        densities = -np.concatenate(scores).astype(np.float32)
        return in_order(section(sum(map(len, rows))), densities)[1]

    held = log_densities(parts.threshold)
    if config.threshold_rule == "fitting_percentile":
        fitted = log_densities(parts.fit, parts.choose)
        rule = fitting_percentile_threshold(fitted, 100 * config.false_positive_rate)
    else:
        rule = quantile_threshold(held, config.false_positive_rate)
    if rule.warning:
        _log.warning("%s", rule.warning)
    facts = {
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
            "fitted": len(parts.fit) + len(parts.choose),
            "components_chosen_by": len(parts.choose),
            "threshold_from": len(parts.threshold),
            "unreadable": len(photos) - len(read),
        },
    }
    arrays["calibration"] = {"log_density": np.sort(held).astype(np.float64)}
    detector = partial(save_detector, workdir / "detector", "one_class", -rule.threshold)
    first_alone(lambda: detector(extractor, arrays, facts))
    if jax.process_index() == 0:
        shutil.rmtree(workdir / "em", ignore_errors=True)  # states of EM: the detector has the last
    _log.info("threshold %.4f, %s", -rule.threshold, rule.summary)


def _projection(features: PhotoFeatures, rows: np.ndarray, pca: int, folder: Path) -> Tree:
    """The projection learnt from rows, computed once: states of EM are of projected features.

    Other versions of a library compute other last bits, with which EM would not continue.
    """
    learnt_from = "".join(part.name for part in features.parts).encode() + rows.tobytes()
    path = folder / f"projection-{hashlib.sha256(learnt_from).hexdigest()[:16]}.safetensors"
    if not gather({"there": path.exists()})[0]["there"]:
        learnt = principal_projection(features.chunks(*own_rows(rows)), pca)
        folder.mkdir(exist_ok=True)
        first_alone(lambda: write_bytes(path, save(flatten(learnt))))
    return load(path.read_bytes())


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
    """Raises a UserError unless the stage can start; returns the number of candidates."""
    check_set("extractor", config.extractor)
    check_set("data.photos", config.data.photos)
    return check(config)


def check(config: OneClassConfig) -> int:
    """Raises a UserError for a field out of range; returns the number of candidates."""
    check_positive(
        config, "batch_size", "steps", "checkpoint_every", "eval_every", "log_every", "restarts"
    )
    check_not_negative(config, "data.patches", "pca", "reg_covar", "tolerance", "memory_gib")
    check_choice("criterion", config.criterion, gmm.CRITERIA)
    check_choice("precision", config.precision, ("float64", "float32"))
    check_choice(
        "threshold_rule", config.threshold_rule, ("heldout_quantile", "fitting_percentile")
    )
    structures = candidate_structures(config)
    for name in ("false_positive_rate", "heldout_fraction"):
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"config.{name} = {getattr(config, name)} must lie between 0 and 1")
    return len(structures) * len(candidate_numbers("num_components", config.num_components))
