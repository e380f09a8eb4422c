"""The two points that define the regions, as they are found in a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LANDMARKS = ("disc", "fovea")
#: trained on IDRiD (CC BY 4.0); ``MODEL_CARD.md`` beside it says how, and how good it is
SHIPPED = Path(__file__).with_name("localizer.safetensors")


@dataclass(frozen=True)
class Point:
    """The centre of the optic disc or of the fovea.

    Attributes:
        x, y: Pixels of the picture it was looked for in; the pixel in row i and column j has its centre at (j, i).
        confidence: Probability that the point is in the picture and within a few cells of here, 0 to 1.
    """

    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class Landmarks:
    """What was found in one photograph; None = not in the picture, or not sure."""

    disc: Point | None
    fovea: Point | None
