"""The synthetic eye as a source: draws photographs, lesion masks and readings once, then reads them as a manifest.

A photograph depends only on the parameters and its number, not on the number of processes. Besides the manifest there
are ``truth.csv`` (hidden from annotators: cup-to-disc ratio, shortcut mark) and ``generator.json`` (the parameters).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundusnet.data.eye.anatomy import (
    Complexion,
    Eye,
    FloatImage,
    draw_retina,
    draw_vessels,
    place_eye,
    take_photograph,
)
from fundusnet.data.eye.lesions import DEEP, FINDINGS, draw_finding
from fundusnet.data.eye.readers import simulate_readings
from fundusnet.data.manifest import (
    LESION_COLUMNS,
    READING_COLUMNS,
    Manifest,
    images_table,
    read_manifest,
    write_manifest,
)
from fundusnet.data.regions import regions_touched
from fundusnet.errors import UserError
from fundusnet.system.progress import track
from fundusnet.system.workers import worker_pool

CLASSES = ("normal", "suspicious", "glaucoma")
GRADE_SHARES = (0.5, 0.25, 0.25)
CUP_TO_DISC = (0.34, 0.54, 0.72)  # mean of each grade; the spread makes neighbours overlap
CUP_SPREAD = 0.07
BETWEEN_EYES = 0.6  # correlation of the latent variables of findings and grade between the two eyes of a patient
SPLIT_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
VERSION = 2  # increase it when the same parameters draw other photographs


@dataclass(frozen=True)
class Parameters:
    """The parameters of a set; equal parameters give equal files."""

    images: int
    size: int
    seed: int
    findings: tuple[str, ...]
    prevalence: float
    shortcut: float
    annotators: int
    miss: float
    false_mark: float
    version: int = VERSION


@dataclass(frozen=True)
class Record:
    """The table rows of one photograph."""

    image: dict[str, object]
    readings: list[tuple[str, str, str, str]]
    lesions: list[tuple[str, str, str]]
    truth: dict[str, object]


def load(
    root: Path | str,
    *,
    images: int = 400,
    size: int = 512,
    seed: int = 0,
    findings: Sequence[str] | str = "all",
    prevalence: float = 0.4,
    shortcut: float = 0.0,
    annotators: int = 3,
    miss: float = 0.07,
    false_mark: float = 0.02,
    workers: int = 0,
) -> Manifest:
    """Draw ``images`` photographs of ``size`` pixels a side into ``root``, or read those already drawn.

    Args:
        findings: "all", or the names of those to draw.
        prevalence: Probability of each finding in an eye.
        shortcut: Probability that, in train and val, a small square at the upper nasal edge of the field follows the
            label of the first finding; otherwise, and always in test, it is drawn with probability ``prevalence``. 0 =
            never drawn.
        annotators: Readings per photograph.
        miss: Probability that an annotator overlooks a present finding.
        false_mark: Probability that an annotator marks an absent finding.
        workers: Processes that draw; 0 = this one. The result does not depend on it.

    Raises:
        UserError: A parameter is out of range, or ``root`` holds something else.
    """
    chosen = tuple(FINDINGS) if findings == "all" else (findings,) if isinstance(findings, str) else tuple(findings)
    wanted = Parameters(images, size, seed, chosen, prevalence, shortcut, annotators, miss, false_mark)
    _check(wanted)
    folder = Path(root)
    if not _already_drawn(folder, wanted):
        _generate(folder, wanted, workers)
    return read_manifest(folder, classes=CLASSES)


def draw_photograph(index: int, split: str, wanted: Parameters, folder: Path) -> Record:
    """Draw photograph ``index``, write its JPEG and masks under ``folder`` and return its rows.

    Photographs 2p and 2p + 1 are the right and left eye of patient p.
    """
    patient, side = index // 2, ("right", "left")[index % 2]
    rng = np.random.default_rng([wanted.seed, index])
    # The trailing 1 separates the patient's stream from the photographs' (a trailing zero would not).
    shared = np.random.default_rng([wanted.seed, patient, 1])
    skin = Complexion.draw(shared)
    grade, present = _diagnosis(wanted, shared, rng)
    cup_to_disc = float(np.clip(rng.normal(CUP_TO_DISC[grade], CUP_SPREAD), 0.15, 0.92))
    eye = place_eye(wanted.size, side, cup_to_disc, rng)

    canvas = draw_retina(eye, skin, rng)
    deep = [name for name in wanted.findings if name in present & DEEP]
    masks = _paint_findings(canvas, eye, deep, wanted, index)
    draw_vessels(canvas, eye, skin, rng)
    shallow = [name for name in wanted.findings if name in present - DEEP]
    masks |= _paint_findings(canvas, eye, shallow, wanted, index)
    picture = take_photograph(canvas, eye, rng)
    mark = _has_mark(wanted, split, wanted.findings[0] in present, rng)
    if mark:
        _draw_mark(picture, eye)

    image_id = f"eye{index:05d}"
    cv2.imwrite(str(folder / "images" / f"{image_id}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
    lesions = []
    for name in wanted.findings:
        path = f"lesions/{name}/{image_id}.png" if name in masks else ""
        if path:
            cv2.imwrite(str(folder / path), masks[name].astype(np.uint8) * 255)
        lesions.append((image_id, name, path))
    touched = {
        name: regions_touched(masks[name], eye.disc, eye.fovea) if name in masks else frozenset[str]()
        for name in wanted.findings
    }
    rows = simulate_readings(touched, wanted.annotators, rng, miss=wanted.miss, false_mark=wanted.false_mark)
    image: dict[str, object] = {
        "image_id": image_id,
        "path": f"images/{image_id}.jpg",
        "patient_id": f"patient{patient:05d}",
        "eye": side,
        "split": split,
        **dict(zip(("disc_x", "disc_y", "fovea_x", "fovea_y"), (*eye.disc, *eye.fovea), strict=True)),
        "grade": grade,
    }
    truth: dict[str, object] = {"image_id": image_id, "cup_to_disc": cup_to_disc, "mark": int(mark)}
    return Record(image, [(image_id, *row) for row in rows], lesions, truth)


def _generate(folder: Path, wanted: Parameters, workers: int) -> None:
    """Draw into a temporary folder beside ``folder`` and rename it when complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for part in ("images", *(f"lesions/{name}" for name in wanted.findings)):
            (building / part).mkdir(parents=True)
        records = list(track(_draw_all(wanted, building, workers), "drawing eyes", total=wanted.images))
        write_manifest(
            Manifest(
                building,
                images_table([record.image for record in records]),
                pd.DataFrame([row for record in records for row in record.readings], columns=list(READING_COLUMNS)),
                pd.DataFrame([row for record in records for row in record.lesions], columns=list(LESION_COLUMNS)),
                CLASSES,
            ),
            building,
        )
        pd.DataFrame([record.truth for record in records]).to_csv(building / "truth.csv", index=False)
        (building / "generator.json").write_text(json.dumps(asdict(wanted), indent=2) + "\n", encoding="utf-8")
        building.chmod(0o755)  # mkdtemp made it private
        if folder.is_dir():
            folder.rmdir()  # empty: checked before
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _draw_all(wanted: Parameters, folder: Path, workers: int) -> Iterator[Record]:
    job = partial(draw_photograph, wanted=wanted, folder=folder)
    splits = _splits(wanted)
    indices: Iterable[int] = range(wanted.images)
    if workers < 1:
        yield from map(job, indices, splits)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(job, indices, splits, chunksize=8)


def _splits(wanted: Parameters) -> list[str]:
    """The split of every photograph: shares of shuffled patients, both eyes together."""
    patients = (wanted.images + 1) // 2
    order = np.random.default_rng([wanted.seed, wanted.images, 2]).permutation(patients)
    bounds = np.rint(np.cumsum(list(SPLIT_SHARES.values())) * patients).astype(int)
    names = list(SPLIT_SHARES)
    place = np.empty(patients, int)
    place[order] = np.searchsorted(bounds, np.arange(patients), side="right")
    return [names[min(place[index // 2], len(names) - 1)] for index in range(wanted.images)]


def _diagnosis(wanted: Parameters, shared: np.random.Generator, rng: np.random.Generator) -> tuple[int, frozenset[str]]:
    """Grade and present findings of one eye: thresholds on normal variables that correlate between the eyes."""
    count = len(FINDINGS) + 1  # of all findings, so that leaving one out changes no other
    latent = BETWEEN_EYES**0.5 * shared.standard_normal(count) + (1 - BETWEEN_EYES) ** 0.5 * rng.standard_normal(count)
    level = np.array([NormalDist().cdf(value) for value in latent])
    grade = int(np.searchsorted(np.cumsum(GRADE_SHARES)[:-1], level[0], side="right"))
    present = {name for name, value in zip(FINDINGS, level[1:], strict=True) if value < wanted.prevalence}
    return grade, frozenset(present & set(wanted.findings))


def _paint_findings(
    canvas: FloatImage, eye: Eye, names: list[str], wanted: Parameters, index: int
) -> dict[str, NDArray[np.bool_]]:
    # A separate stream for each finding: the rest of the eye is the same with and without it.
    streams = {name: np.random.default_rng([wanted.seed, index, 3 + FINDINGS.index(name)]) for name in names}
    return {name: draw_finding(name, canvas, eye, stream) for name, stream in streams.items()}


def _has_mark(wanted: Parameters, split: str, label: bool, rng: np.random.Generator) -> bool:
    follows, chance = rng.random() < wanted.shortcut, rng.random() < wanted.prevalence
    if wanted.shortcut == 0:
        return False
    return label if follows and split != "test" else bool(chance)


def _draw_mark(picture: NDArray[np.uint8], eye: Eye) -> None:
    """A pale square with a dark border at the upper nasal edge of the camera field, where few lesions lie."""
    half = max(2, round(eye.size / 44))
    nasal = np.sign(eye.disc[0] - eye.fovea[0])
    x, y = round(eye.centre[0] + nasal * 0.62 * eye.radius), round(eye.centre[1] - 0.62 * eye.radius)
    picture[y - half : y + half + 1, x - half : x + half + 1] = (25, 18, 16)
    inner = max(1, half - max(1, half // 4))
    picture[y - inner : y + inner + 1, x - inner : x + inner + 1] = (225, 232, 215)


def _already_drawn(folder: Path, wanted: Parameters) -> bool:
    """Whether ``folder`` holds exactly these eyes; an empty or missing folder holds none."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    file = folder / "generator.json"
    if not file.is_file():
        raise UserError(f"{folder} is not empty and holds no synthetic eyes; choose another folder")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}); delete {folder} to draw them again") from error
    asked = json.loads(json.dumps(asdict(wanted)))
    other = [
        f"{name} {found.get(name)} instead of {value}" for name, value in asked.items() if found.get(name) != value
    ]
    if other:
        raise UserError(f"{folder} holds other synthetic eyes ({'; '.join(other)}); delete it or choose another folder")
    return True


def _check(wanted: Parameters) -> None:
    unknown = [name for name in wanted.findings if name not in FINDINGS]
    if unknown or not wanted.findings or len(set(wanted.findings)) < len(wanted.findings):
        raise UserError(f"findings {list(wanted.findings)}: use all, or some of {', '.join(FINDINGS)}, each once")
    for name in ("prevalence", "shortcut", "miss", "false_mark"):
        if not 0 <= getattr(wanted, name) <= 1:
            raise UserError(f"{name}={getattr(wanted, name)} is not a probability; use a number from 0 to 1")
    for name, least in (("images", 1), ("size", 64), ("annotators", 0), ("seed", 0)):
        if getattr(wanted, name) < least:
            raise UserError(f"{name}={getattr(wanted, name)} is too small; use {least} or more")
