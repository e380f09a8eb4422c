"""The report page of predictions: counts, warnings, the networks, and photographs to look through.

The page is one file where it has few photographs. Of many it holds the table, and their pictures lie in ``report/``,
from where a browser loads what is looked at; ``report.zip`` holds both. Photographs at their own size are too large
for either: they lie in ``report/`` only, and the page does without where that is missing. It lists ``LISTED``
photographs at most.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZIP_STORED, ZipFile

from fundusnet.data.appearance import FLAGS
from fundusnet.evaluation import page, tables
from fundusnet.landmarks.points import SHIPPED
from fundusnet.prediction.output_files import PREDICTIONS, REJECTED, read_record, read_rows
from fundusnet.prediction.page_pictures import (
    MASK,
    PICTURES,
    REGIONS,
    WHOLE,
    layer_name,
    photograph_name,
    small_name,
    whole_name,
)
from fundusnet.prediction.tally import BINS, Summary, Tally, kind_of, summary_of
from fundusnet.system.files import replacing
from fundusnet.system.progress import track

LISTED = 20_000  # photographs that a browser still sorts at once
REASONS = 10  # most frequent reasons for rejection that are listed
TYPES = {"jpg": "jpeg", "svg": "svg+xml"}


def write_page(folder: Path, output: Path, pictures: int) -> Path:
    """Write the report page of finished predictions.

    Args:
        folder: Output folder of ``fundusnet predict``.
        output: Where to write the page.
        pictures: Photographs whose pictures the page itself holds, at most; 0 shows none.

    Raises:
        UserError: The record of the predictions is missing or damaged.
    """
    record = read_record(folder)
    grades: list[str] = list(record.get("classes") or [])
    tally = Tally(LISTED)
    for _, group in groupby(read_rows(folder / PREDICTIONS), key=lambda row: (row["path"], row["image_id"])):
        tally.add(summary_of(list(group)), highest=max(len(grades) - 1.0, 1.0))
    reasons = Counter(row["reason"] for row in read_rows(folder / REJECTED))
    listed = tally.selection() if pictures else []
    embed = len(listed) <= pictures
    shown = _Pictures(folder / PICTURES, embed)
    photographs = [_photograph(summary, shown) for summary in track(listed, "writing the page", total=len(listed))]
    values = {
        "title": f"{tally.photographs} photograph{'s' if tally.photographs != 1 else ''} "
        + ("graded" if grades else "read"),
        "record": record,
        "started": record.get("started", ""),
        "networks": list(_networks(record)),
        "summary": list(_summary(record, tally)),
        "graded": bool(grades),
        "located": record.get("task") == "landmarks",
        "masked": any(each["layers"].get("mask") for each in photographs),
        "flags": [
            {"name": name, "words": words, "count": tally.flags[name]}
            for name, words in FLAGS.items()
            if tally.flags[name]
        ],
        "photographs": tally.photographs,
        "rejected": sum(reasons.values()),
        "reasons": reasons.most_common(REASONS),
        "colors": page.gradient(),
        "calibrated": any(
            each.get("calibrated") is not None for photo in photographs for each in photo.get("findings", {}).values()
        ),
        "listed": {
            "graded": bool(grades),
            "located": record.get("task") == "landmarks",
            "grades": [_spoken(name) for name in grades],
            "findings": [
                {"name": each["name"], "title": _spoken(each["name"]), "level": each["operating_point"]}
                for each in _found(record)
            ],
            "flags": {name: words for name, words in FLAGS.items() if tally.flags[name]},
            "photographs": photographs,
        },
    }
    page.write(page.render("fundusnet.prediction", "predictions.html.j2", **values), output)
    archive = output.with_suffix(".zip")
    archive.unlink(missing_ok=True)
    if listed and not embed:
        _write_zip(archive, output, folder / PICTURES)
    return output


class _Pictures:
    """The pictures in ``report/``, as the page refers to them."""

    def __init__(self, folder: Path, embed: bool) -> None:
        self._folder, self._embed = folder, embed
        self._names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()

    def link(self, name: str) -> str | None:
        """The picture itself as a data URI, or its place beside the page; None where there is none."""
        if name not in self._names or not self._embed:
            return self.place(name)
        data = base64.b64encode((self._folder / name).read_bytes()).decode()
        return f"data:image/{TYPES[name.rpartition('.')[2]]};base64,{data}"

    def place(self, name: str) -> str | None:
        """The place of the picture beside the page; None where there is none."""
        return quote(f"{PICTURES}/{name}") if name in self._names else None


def _photograph(summary: Summary, pictures: _Pictures) -> dict[str, Any]:
    """One photograph for the page's script; see ``predictions.js``."""
    first = summary.rows[0]
    row: dict[str, Any] = {"id": summary.image_id, "path": summary.path, "flags": summary.flags}
    row |= {name: first[column] for name, column in (("patient", "patient_id"), ("eye", "eye")) if first[column]}
    names = [MASK]
    if kind := kind_of(first):
        names = [each[kind] for each in summary.rows]
        row["findings"] = {each[kind]: _finding(each) for each in summary.rows}
    else:
        row["grade"] = {
            "grade": int(first["predicted"]),
            "expected": round(summary.scores["grade"], 4),
            "stage1": int(first["stage1_predicted"]) if first["stage1_predicted"] else None,
            "p": [_number(value) for name, value in first.items() if name.startswith("p_gt_")],
            "calibrated": [_number(value) for name, value in first.items() if name.startswith("calibrated_gt_")],
        }
    row["small"] = pictures.link(small_name(summary.image_id))
    row["photograph"] = pictures.link(photograph_name(summary.image_id))
    row["whole"] = pictures.place(whole_name(summary.image_id))
    layers = {name: pictures.link(layer_name(summary.image_id, name)) for name in (*names, REGIONS)}
    row["layers"] = {name: link for name, link in layers.items() if link}
    return row


def _finding(row: Mapping[str, str]) -> dict[str, Any]:
    """What the page says of one finding in a photograph."""
    found: dict[str, Any] = {"p": _number(row["probability"]), "present": row["predicted"] == "1"}
    if row.get("calibrated"):
        found["calibrated"] = _number(row["calibrated"])
    if where := row.get("regions"):
        found["regions"] = [name.replace("_", " ") for name in where.split(";")]
    return found


def _found(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is present or absent in a photograph, findings or landmarks, with operating points."""
    return list(record.get("findings") or record.get("landmarks") or [])


def _networks(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield for each network what it is, and how good it was where its run is known."""
    for each in record.get("checkpoints") or []:
        run = each.get("run") or {}
        scored = {f"n_{name}": run.get(name) for name in ("images", "patients", "without_patient")}
        yield {
            "file": each["file"],
            "name": run.get("name") or Path(each["file"]).name,
            "names": [_spoken(name) for name in each["names"]],
            "shipped": Path(each["file"]).name == SHIPPED.name,
            "sha256": each["sha256"][:12],
            "trained": ", ".join(
                filter(None, (run.get("source"), f"seed {run['seed']}" if run.get("seed") is not None else ""))
            ),
            "scored": f"{run['split']} split, {tables.describe_images(scored)}" if run else "",
            "scores": _scores(run.get("metrics") or {}, run.get("counts") or {}),
        }


def _scores(metrics: Mapping[str, Mapping[str, Any]], counts: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as a table: their names, and a row of cells for each finding; for grades one row without a title."""
    # A run of one finding does not name it in its metrics.
    (only,) = counts if len(counts) == 1 else ("",)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for key, entry in metrics.items():
        target, _, name = key.rpartition("/")
        rows.setdefault(target, {})[name] = tables.cell(entry)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return {
        "head": [{"auroc": "AUROC", "kappa_quadratic": "Kappa"}.get(name, _spoken(name)) for name in names],
        "rows": [
            {
                "title": _spoken(name or only),
                "present": _present(counts.get(name or only)),
                "cells": [row.get(one) for one in names],
            }
            for name, row in rows.items()
        ],
    }


def _present(counts: Any) -> str:
    """In how many of the images a finding is; "" for grades, and for records that do not know it."""
    if not isinstance(counts, Mapping):
        return ""
    return f"in {counts['n_present']} of {counts['n_present'] + counts['n_absent']} images"


def _summary(record: dict[str, Any], tally: Tally) -> Iterator[dict[str, Any]]:
    total = max(tally.photographs, 1)
    for name in record.get("classes") or []:
        yield {"name": name, "count": tally.present[name], "share": tally.present[name] / total}
    for each in _found(record):
        counts = tally.bins.get(each["name"], [0] * BINS)
        yield {
            "name": each["name"],
            "count": tally.present[each["name"]],
            "share": tally.present[each["name"]] / total,
            "threshold": each["operating_point"],
            "networks": each["networks"],
            # A bar of few photographs beside one of thousands is at least a line.
            "bars": [max(round(count / max(*counts, 1) * 100, 1), 3 if count else 0) for count in counts],
            "counts": counts,
            "most": max(counts),
        }


def _write_zip(archive: Path, output: Path, pictures: Path) -> None:
    """Put the page and its pictures, which are compressed already, into one file, except those at their own size."""
    with replacing(archive) as partial, ZipFile(partial, "w", ZIP_STORED) as zipped:
        zipped.write(output, output.name)
        for file in sorted(pictures.iterdir()):
            if file.name.endswith(f".{WHOLE}.jpg"):
                continue
            zipped.write(file, f"{pictures.name}/{file.name}")


def _number(text: str) -> float | None:
    return round(float(text), 4) if text else None


def _spoken(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
