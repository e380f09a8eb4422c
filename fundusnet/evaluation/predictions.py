"""Tables of predictions: reading them, and who the bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fundusnet.errors import UserError


def read_predictions(path: Path, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    """Read ``predictions.csv``.

    Args:
        path: The file.
        columns: Columns it must have.
        text: Columns that stay text (``007`` is not 7). All others become floats, NaN where empty.

    Raises:
        UserError: The file or a column is missing, or a cell is not a number.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: evaluate the run first (fundusnet evaluate)")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    absent = [name for name in columns if name not in table]
    if absent:
        raise UserError(f"{path} lacks the column(s) {', '.join(absent)}: evaluate the run again")
    numbers = [str(name) for name in table if name not in text]
    flags = {"True": "1", "False": "0", "": "nan"}
    try:
        return table.assign(**{name: table[name].replace(flags).astype(np.float64) for name in numbers})
    except ValueError as error:
        raise UserError(f"{path} holds a cell that is not a number ({error}): evaluate the run again") from error


def column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Return a numeric column as floats; all NaN where the table does not have it."""
    if name not in rows:
        return np.full(len(rows), np.nan)
    return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)


def patient_clusters(rows: pd.DataFrame) -> np.ndarray:
    """Return for each row what the bootstrap draws: the patient, or the image where the patient is unknown."""
    patient = rows["patient_id"].fillna("").astype(str)
    return np.asarray(("patient:" + patient).where(patient != "", "image:" + rows["image_id"].astype(str)), dtype=str)


def count_images(rows: pd.DataFrame) -> dict[str, int]:
    """Return ``n_images``, ``n_patients`` and ``n_without_patient``.

    An image of an unknown patient counts as a patient of its own; ``n_without_patient`` says how many there are.
    """
    images = rows.drop_duplicates("image_id")
    clusters = patient_clusters(images)
    unknown = int(np.char.startswith(clusters, "image:").sum())
    return {"n_images": len(images), "n_patients": len(np.unique(clusters)), "n_without_patient": unknown}
