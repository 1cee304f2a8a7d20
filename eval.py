r"""Evaluates detectors on labelled test sets, plain and perturbed: tables, scores and plots.

python eval.py --config=configs/evaluation.py --config.detectors=RUN2/detector,RUN3/detector \
    --config.data.images=LABELLED_DIR --config.perturbations=none,jpeg:95,blur:1.0 --workdir=RUN4

Writes results.json, results.csv, scores.csv and PNG plots into the workdir.
"""

from pathlib import Path

from exif_jax.cli.entry import run_with_config


def main(config: object, workdir: Path) -> None:
    """Runs the evaluation."""
    # Imported here, so that --help and a misspelt flag answer at once.
    from data_pipelines.errors import UserError
    from data_pipelines.labelled import find_test_sets
    from data_pipelines.perturbations import parse_perturbations
    from exif_jax.config import EvaluationConfig, check_positive, check_set
    from exif_jax.detection.detectors import load_detector
    from exif_jax.evaluation.evaluate import evaluate, format_table, read_scores
    from exif_jax.evaluation.plots import plot_evaluation
    from exif_jax.training.runs import open_run

    if not isinstance(config, EvaluationConfig):
        raise UserError(f"--config gives a {type(config).__name__}, which eval.py cannot run")
    check_set("detectors", config.detectors)
    check_set("data.images", config.data.images)
    check_positive(config, "batch_size")
    loaded = [load_detector(path.strip()) for path in config.detectors.split(",")]
    detectors = {detector.name: detector for detector in loaded}
    if len(detectors) < len(loaded):
        raise UserError(
            f"config.detectors: two detectors have the same name ({', '.join(detectors)}): a "
            "detector is named after its run's directory, so rename one of them"
        )
    test_sets = find_test_sets(Path(config.data.images))
    perturbations = parse_perturbations(config.perturbations)
    open_run(workdir, config, "evaluation")
    rows = evaluate(detectors, test_sets, perturbations, workdir, batch_size=config.batch_size)
    plot_evaluation(rows, read_scores(workdir / "scores.csv"), workdir / "plots")
    print(format_table(rows))
    print(f"results.json, results.csv, scores.csv and plots/ are in {workdir}")


if __name__ == "__main__":
    run_with_config(main, __doc__)
