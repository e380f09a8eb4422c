"""A study out as a manifest that trains as it is, and an earlier manifest in, so that its readings count."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import pandas as pd
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection

from fundusnet.annotation.answers import Answer, Decision
from fundusnet.annotation.initial_points import side_of
from fundusnet.annotation.readings import Read, points, read_so_far, readings_table
from fundusnet.annotation.storage import annotators, answers, assignments, decisions, images
from fundusnet.annotation.study import Study
from fundusnet.data.decode import Unreadable
from fundusnet.data.manifest import READING_COLUMNS, Manifest, images_table, read_manifest, write_manifest
from fundusnet.errors import UserError

log = logging.getLogger(__name__)

RECORD = "study.json"
"""What a manifest has no column for: answers as they were given, comments, times, decisions."""
FORMAT = 1


def export(study: Study, folder: Path) -> Path:
    """Write the manifest of what has been read so far to ``folder``, whole or not at all.

    ``images.csv`` has all photographs of the study, ``readings.csv`` the finished readings with decisions in place of
    what they decide (``readings_blind.csv`` has them without, where there are any), ``images/`` the photographs: links
    to the same files where the disk allows, else copies. An earlier export in ``folder`` is replaced.

    Raises:
        UserError: the study was never begun, or ``folder`` holds something else.
    """
    target = Path(os.path.abspath(folder))  # noqa: PTH100 - a link stays one: its place is what gets replaced
    if target.exists() and not (target / RECORD).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"export={folder} exists and is no earlier export; name another folder")
    if not study.key:
        raise UserError("there is no study to export here; start it first, with the same data.root, folder or database")
    with study.storage.read() as connection:
        read = read_so_far(connection)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(study, read, building)
        building.chmod(0o755)  # mkdtemp made it private
        _replace(target, building)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Path(folder)


def take_in(study: Study, folder: Path) -> int:
    """Count the readings of the manifest in ``folder`` as answers of this study; returns how many were new.

    An export of a study brings its answers and decisions as they were given; any other manifest its ``readings.csv``.
    Answers this study has already are left alone, so that the same manifest can be named at every start.

    Raises:
        UserError: the manifest is wrong, or speaks of images or findings this study does not have.
    """
    with study.storage.write() as connection:
        known = set(connection.scalars(sa.select(images.c.image_id)))
        given, decided = _recorded(folder) if (folder / RECORD).is_file() else (_from_manifest(folder), [])
        named = [(answer.image_id, [*answer.findings]) for answer in given]
        for image_id, findings in named + [(decision.image_id, [decision.finding]) for decision in decided]:
            if image_id not in known:
                raise UserError(f"{folder}: image_id '{image_id}' is not in this study; use the same photographs")
            if unknown := [name for name in findings if name not in study.findings]:
                raise UserError(f"{folder}: finding '{unknown[0]}' is not in this study; add it to finding.names")
        new = sum([_take_answer(connection, answer) for answer in given])
        for decision in decided:
            _take_decision(connection, decision)
    if new:
        log.info("took in %d answers from %s", new, folder)
    return new


class RecordedAnswer(Answer):
    """An answer in ``study.json``."""

    image_id: str
    annotator: str
    saved: float
    state: Literal["done", "ungradable"]


class RecordedDecision(Decision):
    """A decision in ``study.json``."""

    image_id: str
    adjudicator: str
    saved: float


class Record(BaseModel):
    """``study.json``."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    study: str
    exported: str
    answers: list[RecordedAnswer]
    decisions: list[RecordedDecision]


def _write(study: Study, read: Read, folder: Path) -> None:
    (folder / "images").mkdir()
    rows: list[dict[str, Any]] = []
    for image_id, row in read.images.items():
        try:
            file = study.photographs.file(row.path)
        except Unreadable as error:
            log.warning("%s is left out: %s", image_id, error)
            continue
        path = f"images/{image_id}{file.suffix.lower()}"
        _link(file, folder / path)
        known = points(read, image_id)
        flat = (
            dict(zip(("disc_x", "disc_y", "fovea_x", "fovea_y"), (*known[0], *known[1]), strict=True)) if known else {}
        )
        eye = row.eye or (side_of(*known) if known else "")
        rows.append(
            {"image_id": image_id, "path": path, "patient_id": row.patient_id, "eye": eye, "split": row.split,
             "grade": row.grade, **flat}
        )  # fmt: skip
    exported = {row["image_id"] for row in rows}

    def within(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["image_id"].isin(exported)].reset_index(drop=True)

    readings = within(readings_table(read, adjudicated=True, present=study.present))
    write_manifest(Manifest(folder, images_table(rows), readings), folder)
    if read.decisions:
        blind = within(readings_table(read, adjudicated=False))
        blind[list(READING_COLUMNS)].to_csv(folder / "readings_blind.csv", index=False)
    (folder / RECORD).write_text(json.dumps(_record(study, read), indent=1) + "\n", encoding="utf-8")
    for file in [folder / name for name in ("images.csv", "readings.csv", RECORD)]:
        if file.exists():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    unfinished = len(read.waiting & exported)
    log.info("%d images, %d of them read", len(rows), readings["image_id"].nunique())
    if unfinished:
        log.info("%d images wait for further readings; until then consensus rests on those there are", unfinished)
    fewest = min((len(read.graded(image_id)) for image_id in readings["image_id"].unique()), default=study.present)
    if fewest < study.present:
        log.warning("some images have %d reading: train with data.present=%d to count it", fewest, max(fewest, 1))


def _record(study: Study, read: Read) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "study": study.key,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "answers": [
            {"image_id": g.image_id, "annotator": g.annotator, "version": g.version, "change": g.change,
             "state": g.state, "seconds": g.seconds, "saved": g.saved, **g.content}
            for answers in read.answers.values() for g in answers
        ],
        "decisions": [
            {"image_id": d.image_id, "finding": d.finding, "version": d.version, "adjudicator": d.adjudicator,
             "change": d.change, "present": d.present, "regions": list(d.regions), "saved": d.saved}
            for d in read.decisions.values()
        ],
    }  # fmt: skip


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(file, target)


def _replace(target: Path, building: Path) -> None:
    """Put ``building`` in the place of ``target``; who looks in between finds none, never half of one."""
    if not target.exists():
        building.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        target.rename(old)
        building.rename(target)
    finally:
        if not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _recorded(folder: Path) -> tuple[list[RecordedAnswer], list[RecordedDecision]]:
    try:
        record = Record.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise UserError(f"{folder / RECORD} is not what an export writes ({reason}); export again") from error
    return record.answers, record.decisions


def _from_manifest(folder: Path) -> list[RecordedAnswer]:
    """The readings of any manifest, each as the answer that would have made it."""
    manifest = read_manifest(folder)
    places = {
        row["image_id"]: ((row["disc_x"], row["disc_y"]), (row["fovea_x"], row["fovea_y"]))
        for row in manifest.images.dropna(subset=["disc_x", "disc_y", "fovea_x", "fovea_y"]).to_dict("records")
    }
    marked: dict[tuple[str, str], dict[str, list[str]]] = {}
    for image_id, annotator, finding, cell in manifest.readings[list(READING_COLUMNS)].itertuples(
        index=False, name=None
    ):
        findings = marked.setdefault((image_id, annotator), {})
        if finding:
            findings[finding] = sorted({*findings.get(finding, []), *filter(None, cell.split(";"))})
    recorded = []
    for (image_id, annotator), findings in marked.items():
        disc, fovea = places.get(image_id, (None, None))
        recorded.append(
            RecordedAnswer(
                image_id=image_id, annotator=annotator, saved=time.time(), version=1, state="done", findings=findings,
                # The same rows make the same change, whenever they are taken in.
                change=uuid5(NAMESPACE_URL, f"{image_id}\0{annotator}\0{findings}"),
                normal=not findings, ungradable=None, comment="", disc=disc, fovea=fovea, seconds=0.0,
            )
        )  # fmt: skip
    return recorded


def _take_answer(connection: Connection, answer: RecordedAnswer) -> bool:
    """Keep an answer unless its annotator has one on that image already."""
    annotator_id = _annotator(connection, answer.annotator, "annotator")
    here = {"annotator_id": annotator_id, "image_id": answer.image_id}
    same = (answers.c.annotator_id == annotator_id, answers.c.image_id == answer.image_id)
    if connection.scalar(sa.select(answers.c.version).where(*same)) is not None:
        return False
    state = {"version": 1, "state": answer.state}
    placed = connection.execute(
        sa.update(assignments)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.image_id == answer.image_id)
        .values(state)
    )
    if not placed.rowcount:
        connection.execute(sa.insert(assignments).values(here | state))
    more = {"change": str(answer.change), "content": answer.content(), "seconds": answer.seconds, "saved": answer.saved}
    connection.execute(sa.insert(answers).values(here | state | more))
    return True


def _take_decision(connection: Connection, decision: RecordedDecision) -> None:
    here = {"image_id": decision.image_id, "finding": decision.finding}
    same = (decisions.c.image_id == decision.image_id, decisions.c.finding == decision.finding)
    if connection.scalar(sa.select(decisions.c.version).where(*same)) is None:
        adjudicator = _annotator(connection, decision.adjudicator, "adjudicator")
        said = {"present": decision.present, "regions": decision.ordered_regions(), "saved": decision.saved}
        connection.execute(sa.insert(decisions).values(**here, **said, version=1, annotator_id=adjudicator))


def _annotator(connection: Connection, name: str, role: str) -> int:
    """The id of an annotator, who joins the study without taking part in it where nobody enrols the name."""
    row = connection.execute(sa.select(annotators).where(annotators.c.name == name)).first()
    if row is None:
        connection.execute(sa.insert(annotators).values(name=name, role=role, active=False))
        return _annotator(connection, name, role)
    return int(row.id)
