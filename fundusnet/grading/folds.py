"""Folds of the training images for masks by a model that did not see them (S2.5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fundusnet.data.splits import deal
from fundusnet.errors import UserError


def assign_folds(
    grades: npt.NDArray[np.integer],
    component: npt.NDArray[np.integer],
    folds: int,
    classes: Sequence[str],
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """Fold 0 … ``folds`` - 1 of each training image, alike in size and grades.

    Args:
        grades: ``(N,)`` in 0 … K-1.
        component: ``(N,)``, images of one number stay together: a patient's, and near-identical ones.
        classes: Names of the K grades, for the error.

    Raises:
        UserError: Fewer than two folds or too many, or all images of a grade lie in one fold, so that the model fitted
            on the others would never see it.
    """
    groups = len(np.unique(component))
    if not 2 <= folds <= groups:
        raise UserError(
            f"model.stage1.folds={folds} is not possible with {groups} patients or images that belong together; "
            f"use 2 to {groups}, or 1 for masks by the model that saw the image"
        )
    fold = deal(component.astype(np.int64), grades.astype(np.float64), np.ones(folds), seed)
    for grade, name in enumerate(classes):
        if len(np.unique(fold[grades == grade])) < 2:
            raise UserError(
                f"model.stage1.folds={folds}: all training images of grade {grade} ({name}) belong together, and the "
                "model of the other folds would see none; use folds=1 or prepare more images"
            )
    return fold
