"""From photographs of any size and format to a prepared set.

Everything is written to ``<folder>.partial``, which is renamed when it is complete. A journal beside the pixels records
which rows are done, so that an interrupted run resumes and ends with the same bytes.
"""

from __future__ import annotations

import math
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from fundusnet.data.duplicates import HASH_DISTANCE, write_duplicates
from fundusnet.data.journal import Journal, preparation_identity
from fundusnet.data.manifest import COORDINATES, LESION_COLUMNS, ORIGIN_COLUMNS, Manifest, write_manifest
from fundusnet.data.prepare_one import Locate, PrepareJob, PrepareResult, prepare_one
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.regions import eye_of
from fundusnet.data.rows import read_header, write_header
from fundusnet.data.versions import RECORD, Record
from fundusnet.errors import UserError
from fundusnet.system.progress import track
from fundusnet.system.shard import Shard, link
from fundusnet.system.workers import worker_pool


def prepare(
    manifest: Manifest,
    folder: Path | str,
    *,
    size: int = 512,
    workers: int = 0,
    source: str = "",
    options: Mapping[str, Any] | None = None,
    duplicates_distance: int = HASH_DISTANCE,
    shard: Shard | None = None,
    earlier: PreparedSet | None = None,
    state: str = "",
    locate: Locate | None = None,
) -> PreparedSet:
    """Crop every photograph of ``manifest`` to its field of view, resize it to ``size`` pixels and open the result.

    Args:
        folder: The prepared set to make; one made from the same photographs and settings is opened instead.
        workers: Processes that prepare photographs; 0 = this one.
        source: Name of the source, for the record.
        options: Options of the source, for the record.
        duplicates_distance: Bits in which the hashes of two near-identical photographs may differ, 0 to 64.
        shard: Prepare this part only, a block of consecutive rows, for ``fundusnet.data.merging.merge_parts``. A part
            may be empty, if none of its photographs can be read.
        earlier: A set made with the same settings, from which unchanged photographs are taken.
        state: What ``fundusnet.data.versions.source_state`` returned before the tables were read, for the record.
        locate: Finds disc and fovea where the manifest does not give them; a function of a module, as processes are
            told its name. None = they stay unknown.

    Raises:
        UserError: No photograph can be prepared, there are fewer of them than parts, or ``folder`` is another set.
    """
    target = Path(folder)
    if size < 16:
        raise UserError(f"size={size} is too small for a photograph; use 512")
    findings = set(manifest.lesions["finding"])
    if wrong := sorted(name for name in findings if not name or "/" in name or "\\" in name or name.startswith(".")):
        raise UserError(f"lesions.csv: finding '{wrong[0]}' cannot be a folder name; use a name such as hard_exudate")
    parameters = {"size": size, "duplicates_distance": duplicates_distance}
    identity = preparation_identity(manifest, parameters | {"source": source})
    if is_occupied(target):
        return open_same(target, identity, shard)

    if shard:
        shard.check_filled(len(manifest.images))
        first, end = ((number * len(manifest.images)) // shard.of for number in (shard.number - 1, shard.number))
        manifest = replace(manifest, images=manifest.images.iloc[first:end].reset_index(drop=True))
    partial = target.with_name(target.name + ".partial")
    jobs = prepare_jobs(manifest, partial, size, locate)
    begun = " ".join([identity, *([str(shard)] if shard else []), *(["points found"] if locate else [])])
    with Journal(partial, begun, len(jobs), size) as journal:
        taken = 0 if earlier is None else _take_unchanged(jobs, earlier, partial, journal)
        waiting = [job for job in jobs if not journal.holds(job)]
        for result, pixels in track(_run_jobs(waiting, workers), "preparing", total=len(waiting)):
            journal.add(result, pixels, jobs[result.row])
        results = journal.results()
        journal.write_record(partial / RECORD, jobs)
    kept = [row for row, result in enumerate(results) if not result.reason]
    if not kept and not shard:
        shutil.rmtree(partial)
        raise no_photograph_error(manifest.root, (result.reason for result in results))

    _write_pixels(partial, kept)
    moved = _move_manifest(manifest, results, kept)
    write_manifest(moved, partial / "manifest")
    groups = write_duplicates(partial, moved.images["image_id"], duplicates_distance)
    rejected = [(result.path, result.reason) for result in results if result.reason]
    rejected += [pair for result in results if not result.reason for pair in result.rejected_masks]
    pd.DataFrame(rejected, columns=["path", "reason"]).to_csv(partial / "rejected.csv", index=False)
    flagged = [(result.path, flag) for result in results if not result.reason for flag in result.flags]
    pd.DataFrame(flagged, columns=["path", "flag"]).to_csv(partial / "flagged.csv", index=False)
    localised = (moved.images[list(ORIGIN_COLUMNS)] == "localised").any(axis=1)
    info = {
        "source": source,
        "root": str(manifest.root.resolve()),
        "options": dict(options or {}),
        "identity": identity,
        "state": state,
        **({"shard": str(shard)} if shard else {}),
        "parameters": parameters,
        "classes": list(manifest.classes),
        "counts": {
            "listed": len(jobs),
            "prepared": len(kept),
            "rejected": len(jobs) - len(kept),
            "rejected_masks": len(rejected) - (len(jobs) - len(kept)),
            "duplicate_groups": groups,
            "flagged": len({path for path, _ in flagged}),
            **({"taken_over": taken} if taken else {}),
            "localised": int(localised.sum()),
            "readings_on_localised": int(moved.readings["image_id"].isin(moved.images["image_id"][localised]).sum()),
        },
        "versions": _versions(),
    }
    Journal.remove(partial)
    return finish(partial, target, info)


def finish(partial: Path, target: Path, info: Mapping[str, Any]) -> PreparedSet:
    """Write ``prepared.yaml``, the last file of a set, and move the set to its place."""
    (partial / "prepared.yaml").write_text(
        yaml.safe_dump(dict(info), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    if target.is_dir():
        target.rmdir()
    partial.rename(target)
    return open_prepared(target)


def open_same(target: Path, identity: str, shard: Shard | None = None) -> PreparedSet:
    """Open the set that exists already; raises UserError if it was made from other photographs or settings."""
    if not target.is_dir() or not (target / "prepared.yaml").is_file():
        raise UserError(f"{target} exists and is not a prepared set; choose another folder or remove it")
    prepared = open_prepared(target)
    if prepared.info.get("identity") != identity:
        raise UserError(f"{target} was prepared from other photographs or settings; remove it or choose another folder")
    prepared.check_shard(shard)
    return prepared


def is_occupied(folder: Path) -> bool:
    """Whether ``folder`` exists and is not an empty folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def no_photograph_error(root: Path | str, reasons: Iterable[str]) -> UserError:
    """The error if every photograph was rejected, with the most frequent of ``reasons``."""
    reason = Counter(reasons).most_common(1)
    why = f"most often: {reason[0][0]}" if reason else "the manifest lists none"
    return UserError(f"no photograph under {root} can be prepared ({why}); check the source and its root")


def prepare_jobs(manifest: Manifest, partial: Path, size: int, locate: Locate | None = None) -> list[PrepareJob]:
    """The work to be done for each photograph of ``manifest``, in order."""
    masks: dict[str, dict[str, list[str]]] = {}
    rows = zip(manifest.lesions["image_id"], manifest.lesions["finding"], manifest.lesions["path"], strict=True)
    for image_id, finding, path in rows:
        masks.setdefault(image_id, {}).setdefault(finding, []).append(path)
    points = manifest.images[list(COORDINATES)].to_numpy(dtype=float)
    pairs = zip(manifest.images["image_id"], manifest.images["path"], strict=True)
    return [
        PrepareJob(
            row,
            image_id,
            str(manifest.root),
            path,
            tuple(points[row].tolist()),
            masks.get(image_id, {}),
            str(partial),
            size,
            manifest.lesion_above,
            locate,
        )
        for row, (image_id, path) in enumerate(pairs)
    ]


def _take_unchanged(jobs: list[PrepareJob], earlier: PreparedSet, partial: Path, journal: Journal) -> int:
    """Copy to the journal what the earlier set has of the same files; how many of ``jobs`` that are."""
    record, taken = Record(earlier), 0
    for job in jobs:
        if journal.holds(job) or (found := record.find(job)) is None:
            continue
        result, row = found
        taken += 1
        for path in filter(None, result.lesions.values()):
            target = partial / "manifest" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link(earlier.manifest.root / path, target)
        journal.add(result, b"" if result.reason else earlier.pixels[row].tobytes(), job)
    return taken


def _run_jobs(jobs: list[PrepareJob], workers: int) -> Iterator[tuple[PrepareResult, bytes]]:
    """Results of ``jobs`` as they finish; never more than a few photographs in memory, however long the list."""
    if workers <= 0:
        yield from map(prepare_one, jobs)
        return
    running: set[Future[tuple[PrepareResult, bytes]]] = set()
    queue = iter(jobs)
    with worker_pool(workers) as pool:
        while True:
            while len(running) < 2 * workers and (job := next(queue, None)) is not None:
                running.add(pool.submit(prepare_one, job))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def _write_pixels(partial: Path, kept: list[int]) -> None:
    """Write ``pixels.npy`` from the rows in ``kept``, in order; ``rows.npy`` stays until the set is complete."""
    with (partial / "pixels.npy").open("wb") as out, (partial / "rows.npy").open("rb") as source:
        shape, dtype = read_header(source)
        write_header(out, (len(kept), *shape[1:]), dtype)
        start, length = source.tell(), math.prod(shape[1:])
        for row in kept:
            source.seek(start + row * length)
            out.write(source.read(length))


def _move_manifest(manifest: Manifest, results: list[PrepareResult], kept: list[int]) -> Manifest:
    """The tables of the photographs in ``kept``, in the order of the images; points in the prepared frame."""
    images = manifest.images.iloc[kept].reset_index(drop=True)
    images[list(COORDINATES)] = np.array([results[row].points for row in kept], dtype=float).reshape(-1, 4)
    images["scale"] = [results[row].scale for row in kept]
    for point, name in enumerate(ORIGIN_COLUMNS):
        told = images[name] if name in images else pd.Series("", index=images.index)
        known = images[COORDINATES[2 * point]].notna()
        localised = pd.Series([results[row].localised[point] for row in kept], index=images.index, dtype=bool)
        images[name] = told.where(told != "", "given").where(~localised, "localised").where(known, "")
    points = images[list(COORDINATES)].to_numpy()
    images["eye"] = [
        side or ("" if np.isnan(each).any() else eye_of((each[0], each[1]), (each[2], each[3])))
        for side, each in zip(images["eye"], points, strict=True)
    ]
    place = pd.Series(range(len(images)), index=images["image_id"])
    readings = manifest.readings[manifest.readings["image_id"].isin(place.index)]
    readings = readings.sort_values("image_id", key=lambda ids: ids.map(place), kind="stable", ignore_index=True)
    lesions = [(results[row].image_id, finding, path) for row in kept for finding, path in results[row].lesions.items()]
    table = pd.DataFrame(lesions, columns=list(LESION_COLUMNS), dtype=str)
    return Manifest(manifest.root, images, readings, table, manifest.classes)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    for name in ("fundusnet", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
