"""Detection while pretraining: how well the feature tells labelled images apart.

Features of the central window of every image of a LABELLED directory, standardised; a classifier
is fitted to four fifths of the groups (bursts of photos, single images) and scores the last, in
turn. The numbers say whether detection gains from more pretraining; they are not a detector's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.object_storage import path_of
from exif_jax import metrics
from exif_jax.evaluation.evaluators.context import Context
from exif_jax.evaluation.labelled_features import LabelledFeatures
from exif_jax.training.loop import Evaluator
from exif_jax.training.shares import in_order, share
from exif_jax.training.step import Params

_FOLDS = 5
_NEIGHBOURS = 20


class _Images:
    """Labelled images and their features, computed once for each set of parameters."""

    def __init__(self, context: Context, directory: str) -> None:
        if not directory:
            raise UserError(
                "config.evaluators: linear_probe and knn need labelled images: write "
                "linear_probe:DIR"
            )
        images = labelled_images(find_test_sets(path_of(directory)), bursts=True)
        for label, what in enumerate(("photographs", "generated images")):
            groups = {image.group for image in images if image.label == label}
            if len(groups) < _FOLDS:
                raise UserError(
                    f"config.evaluators: {directory} has {len(groups)} independent {what}; "
                    f"linear_probe and knn need {_FOLDS}"
                )
        self._features = LabelledFeatures(
            context.extractor, images, context.describer, context.unread
        )
        self._last: tuple[Params, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    def __call__(self, params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features [n, F], labels [n] and groups [n] of the readable images."""
        if self._last is None or self._last[0] is not params:
            own, positions = self._features(params["extractor"])
            every, features = in_order(positions, own)
            read = [self._features.images[i] for i in every]
            labels = np.array([image.label for image in read])
            groups = np.unique([image.group for image in read], return_inverse=True)[1]
            self._last = (params, (features, labels, groups))
        return self._last[1]


def _probe(
    context: Context, directory: str, name: str, classifier: Callable[[int], Any]
) -> Evaluator:
    key = (_Images, directory)
    if key not in context.shared:
        context.shared[key] = _Images(context, directory)
    images = context.shared[key]

    def evaluate(params: Params) -> dict[str, float]:
        from sklearn.model_selection import StratifiedGroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features, labels, groups = images(params)
        folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
        parts = list(folds.split(features, labels, groups))
        tested, found = [np.zeros(0, int)], [np.zeros(0)]  # by this process
        for train, test in (parts[i] for i in share(_FOLDS)):
            model = make_pipeline(StandardScaler(), classifier(len(features)))
            model.fit(features[train], labels[train])
            tested.append(test)
            found.append(model.predict_proba(features[test])[:, 1])
        _, scores = in_order(np.concatenate(tested), np.concatenate(found))
        return {
            f"{name}/auroc": metrics.auroc(scores, labels),
            f"{name}/tpr_at_fpr_5pct": metrics.tpr_at_fpr(scores, labels, 0.05),
        }

    return evaluate


def linear_probe(context: Context, argument: str) -> Evaluator:
    """Logistic regression on the feature; `linear_probe/auroc`."""

    def classifier(images: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=0.1, max_iter=1000)

    return _probe(context, argument, "linear_probe", classifier)


def knn(context: Context, argument: str) -> Evaluator:
    """The nearest neighbours of the feature, by cosine; `knn/auroc`."""

    def classifier(images: int) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        neighbours = min(_NEIGHBOURS, images // 2)
        return KNeighborsClassifier(neighbours, metric="cosine", weights="distance")

    return _probe(context, argument, "knn", classifier)
