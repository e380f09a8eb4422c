"""Exports a study as a manifest that can be trained on as it is."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from fundusnet.annotation.choice_consensus import ChoiceConsensus, choice_consensus, grades
from fundusnet.annotation.export_folder import earlier_export, replace_export, write_marker
from fundusnet.annotation.readings import Readings, load_readings, origin_of, reference_points
from fundusnet.annotation.readings_table import ADJUDICATED, readings_table
from fundusnet.annotation.record import FORMAT, RECORD
from fundusnet.annotation.roster import recorded_groups
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggestion_outcomes import outcomes_table, shown_suggestions_of
from fundusnet.annotation.suggestions import recorded_shares, recorded_shown, recorded_suggestions
from fundusnet.annotation.tallies import disagreement
from fundusnet.data.decode import Unreadable
from fundusnet.data.listing import file_name
from fundusnet.data.manifest import COORDINATES, VISIT, Manifest, images_table, write_manifest
from fundusnet.data.regions import eye_of
from fundusnet.errors import UserError
from fundusnet.system.files import write_json
from fundusnet.system.shard import link

log = logging.getLogger(__name__)


def export_study(study: Study, folder: Path) -> Path:
    """Write the readings so far to ``folder`` as a manifest, completely or not at all.

    ``images.csv`` lists all photographs of the study, ``readings.csv`` the finished readings, with each decision in
    place of the readings it settles (``readings_blind.csv`` has the readings without decisions, if there are any).
    ``suggestions.csv`` has what became of each suggestion that a reader was shown, ``readers.csv`` the group of each
    reader, ``choices.csv`` the answers to questions and ``choices_consensus.csv`` what they are together, if there are
    any. Of the questions, a grade is in ``images.csv`` too, and a finding without a place in ``readings.csv``.
    ``images/`` holds hard links to the photographs, or copies if the file system has no links. An earlier export of
    this study in ``folder`` is replaced; what else lies there stays where it is.

    Returns:
        ``folder``.

    Raises:
        UserError: The study was never started, no photograph can be read, or ``folder`` holds something else.
    """
    if not study.key:
        raise UserError("there is no study to export here; start it first, with the same data.root, folder or database")
    target = folder.resolve()  # a link stays, and what it points to is replaced
    earlier = earlier_export(target, study.key)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(study, building, photographs=True)
        write_marker(building, study.key)
        building.chmod(0o755)  # mkdtemp made it private
        replace_export(target, building, earlier)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def export_tables(study: Study, folder: Path) -> Path:
    """Write the tables of an export to a new ``folder``, without photographs; their paths are those below the root."""
    folder.mkdir(parents=True)
    _write(study, folder, photographs=False)
    return folder


def _write(study: Study, folder: Path, *, photographs: bool) -> None:
    with study.storage.read() as connection:
        readings = load_readings(connection)
        more = {
            "suggestions": recorded_suggestions(connection),
            "shown": recorded_shown(connection),
            "shares": [{"seed": seed, "share": share} for seed, share in recorded_shares(connection).items()],
            "readers": recorded_groups(connection),
        }
        outcomes = outcomes_table(shown_suggestions_of(connection, readings))
    together = list(choice_consensus(readings, study.questions, study.present))
    tables = {
        "suggestions.csv": outcomes,
        "readers.csv": _readers_table(more["readers"]),
        "choices.csv": _choices_table(study, readings),
        "choices_consensus.csv": _consensus_table(study, together),
    }
    graded = grades(together, study.questions)
    rows = list(_image_rows(study, readings, graded, folder if photographs else None))
    if not rows:
        raise UserError(
            f"no photograph of this study can be read below {study.photographs.root}; bring them back and export again"
        )
    exported = {row["image_id"] for row in rows}

    def within(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["image_id"].isin(exported)].reset_index(drop=True)

    asked = _findings_asked(study)
    table = within(readings_table(readings, adjudicated=True, present=study.present, asked=asked))
    write_manifest(Manifest(folder, images_table(rows), table), folder)
    if readings.decisions or any(question in asked for _, _, question in readings.choices):
        blind = within(readings_table(readings, adjudicated=False, asked=asked))
        blind.to_csv(folder / "readings_blind.csv", index=False)
    points = within(_points_table(readings))
    if len(points):
        points.to_csv(folder / "points.csv", index=False, float_format="%.3f")
    for name, each in tables.items():
        kept = within(each) if "image_id" in each else each
        if len(kept):
            kept.to_csv(folder / name, index=False)
    # Without suggestions and groups the record stays one that earlier versions read.
    record = _record(study, readings) | {name: rows for name, rows in more.items() if rows}
    write_json(folder / RECORD, record)
    for file in [folder / name for name in ("images.csv", "readings.csv", "points.csv", *tables, RECORD)]:
        if file.exists():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    unfinished = len(readings.waiting & exported)
    log.info("%d images, %d of them read", len(rows), table["image_id"].nunique())
    if unfinished:
        log.info("%d images are still to be read by someone; consensus uses the readings there are", unfinished)
    _warn_of_points(readings, exported)
    fewest = min((len(readings.gradable(image_id)) for image_id in table["image_id"].unique()), default=study.present)
    if fewest < study.present:
        log.warning("some images have only %d reading(s): train with data.present=%d", fewest, max(fewest, 1))


def _image_rows(
    study: Study, readings: Readings, graded: Mapping[str, int] | None, folder: Path | None
) -> Iterator[dict[str, Any]]:
    """Rows of ``images.csv``; links each photograph into ``folder`` if there is one.

    Where readers are asked for the grade, only theirs count: those of the source may be on another scale.
    """
    if folder is not None:
        (folder / "images").mkdir()
    for image_id, row in readings.images.items():
        try:
            file = study.photographs.file(row.path)
        except Unreadable as error:
            log.warning("%s is left out: %s", image_id, error)
            continue
        path = row.path
        if folder is not None:
            path = f"images/{file_name(image_id, suffix=file.suffix.lower().removeprefix('.'))}"
            link(file, folder / path)
        points = reference_points(readings, image_id)
        coordinates = dict(zip(COORDINATES, (*points[0], *points[1]), strict=True)) if points else {}
        eye = row.eye or (eye_of(*points) if points else "")
        yield {
            "image_id": image_id,
            "path": path,
            "patient_id": row.patient_id,
            "eye": eye,
            "split": row.split,
            VISIT: row.visit or "",
            "grade": row.grade if graded is None else graded.get(image_id),
            **coordinates,
        }


def _readers_table(groups: list[dict[str, Any]]) -> pd.DataFrame:
    """``readers.csv``: the group of each annotator."""
    return pd.DataFrame([(each["annotator"], each["group"]) for each in groups], columns=["annotator_id", "group"])


def _findings_asked(study: Study) -> list[str]:
    """Questions whose answers are findings of the manifest."""
    asked = [question.name for question in study.questions if question.is_finding]
    for name in asked:
        if name in study.findings:
            log.warning("%s is marked and asked: training learns the marks; choices.csv has the answers", name)
    return [name for name in asked if name not in study.findings]


def _choices_table(study: Study, readings: Readings) -> pd.DataFrame:
    """``choices.csv``: what readers answered to each question, ``finding`` "" where it is of the photograph.

    ``number`` is the place of the choice, from 0 on. What an adjudicator decided is under the name ``adjudicated``.
    """
    known = {question.name: question.choices for question in study.questions}
    rows = [
        (image_id, given.annotator, question, finding, choice, known[question].index(choice))
        for image_id in readings.images
        for given in readings.gradable(image_id)
        for finding, chosen in given.content.get("choices", {}).items()
        for question, choice in chosen.items()
        if choice in known.get(question, ())
    ]
    rows += [
        (each.image_id, ADJUDICATED, each.question, each.finding, each.choice, known[each.question].index(each.choice))
        for each in readings.choices.values()
        if each.choice is not None and each.choice in known.get(each.question, ())
    ]
    return pd.DataFrame(rows, columns=["image_id", "annotator_id", "question", "finding", "choice", "number"])


def _consensus_table(study: Study, found: Sequence[ChoiceConsensus]) -> pd.DataFrame:
    """``choices_consensus.csv``: of each question the consensus, empty without one; ``by`` readers or adjudicated."""
    known = {question.name: question.choices for question in study.questions}
    columns = ["image_id", "question", "finding", "choice", "number", "readings", "by"]
    rows = [
        (each.image_id, each.question, each.subject, each.choice,
         None if each.choice is None else known[each.question].index(each.choice),
         each.readings, ADJUDICATED if each.adjudicated else "readers")
        for each in found
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"number": "Int64"})


def _points_table(readings: Readings) -> pd.DataFrame:
    """``points.csv``: disc and fovea of each reading, and where each comes from."""
    rows = []
    for image_id in readings.images:
        for given in readings.gradable(image_id):
            row: dict[str, Any] = {"image_id": image_id, "annotator_id": given.annotator}
            for name in ("disc", "fovea"):
                x, y = given.content[name] or (None, None)
                row |= {f"{name}_x": x, f"{name}_y": y, f"{name}_origin": origin_of(given.content, name)}
            if row["disc_x"] is not None or row["fovea_x"] is not None:
                rows.append(row)
    columns = [f"{name}_{what}" for name in ("disc", "fovea") for what in ("x", "y", "origin")]
    return pd.DataFrame(rows, columns=["image_id", "annotator_id", *columns])


def _warn_of_points(readings: Readings, exported: Collection[str]) -> None:
    """Say which regions nobody can draw, and which readers drew them in different places."""
    marked = [name for name in exported if any(given.content["findings"] for given in readings.gradable(name))]
    if unknown := [image_id for image_id in marked if reference_points(readings, image_id) is None]:
        log.warning(
            "%d images have regions, but nobody placed disc and fovea, so the regions cannot be drawn: %s",
            len(unknown), ", ".join(unknown[:5]),
        )  # fmt: skip
    contents = {name: [given.content for given in readings.gradable(name)] for name in exported}
    if apart := [image_id for image_id in exported if disagreement(contents[image_id])]:
        log.warning(
            "in %d images readers placed disc or fovea apart (points.csv), so that their regions are not the same: %s",
            len(apart), ", ".join(sorted(apart)[:5]),
        )  # fmt: skip


def _record(study: Study, readings: Readings) -> dict[str, Any]:
    chosen = [
        {"image_id": c.image_id, "finding": c.finding, "question": c.question, "version": c.version,
         "adjudicator": c.adjudicator, "change": c.change, "choice": c.choice, "saved": c.saved}
        for c in readings.choices.values()
    ]  # fmt: skip
    return ({"choice_decisions": chosen} if chosen else {}) | {
        "format": FORMAT,
        "study": study.key,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "answers": [
            {"image_id": g.image_id, "annotator": g.annotator, "version": g.version, "change": g.change,
             "state": g.state, "seconds": g.seconds, "saved": g.saved, **g.content}
            for answers in readings.answers.values() for g in answers
        ],
        "decisions": [
            {"image_id": d.image_id, "finding": d.finding, "version": d.version, "adjudicator": d.adjudicator,
             "change": d.change, "present": d.present, "regions": list(d.regions), "saved": d.saved}
            for d in readings.decisions.values()
        ],
    }  # fmt: skip
