"""From photographs of any size and format to a prepared set.

Work goes on in ``<folder>.partial``, which is renamed when everything is there. A journal beside the pixels says
which rows are done, so that an interrupted run goes on where it stopped and ends with the same bytes.
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

from fundusnet.data.duplicates import HASH_DISTANCE, remove_fingerprints, write_duplicates, write_fingerprints
from fundusnet.data.journal import Journal, digest
from fundusnet.data.manifest import COORDINATES, LESION_COLUMNS, Manifest, write_manifest
from fundusnet.data.prepare_one import Done, Job, develop
from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.rows import read_header, write_header
from fundusnet.errors import UserError
from fundusnet.system.progress import track
from fundusnet.system.shard import Shard
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
) -> PreparedSet:
    """Crop every photograph of ``manifest`` to its field of view, resize it to ``size`` pixels and open the result.

    Args:
        folder: the prepared set to make; one that is there already, made of the same with the same, is opened.
        workers: processes beside this one; 0 works in this one.
        source, options: name and options of the source, for the record.
        duplicates_distance: bits in which hashes of two near-identical pictures may differ, 0 to 64.
        shard: this part alone, a block of consecutive rows; ``fundusnet.data.merging.merge`` puts parts together.
            A part may be empty, because of photographs that cannot be read.

    Raises:
        UserError: no photograph survives, there are fewer of them than parts, or ``folder`` holds something else.
    """
    target = Path(folder)
    if size < 16:
        raise UserError(f"size={size} is too small for a photograph; use 512")
    findings = set(manifest.lesions["finding"])
    if wrong := sorted(name for name in findings if not name or "/" in name or "\\" in name or name.startswith(".")):
        raise UserError(f"lesions.csv: finding '{wrong[0]}' cannot name a folder; use a name such as hard_exudate")
    parameters = {"size": size, "duplicates_distance": duplicates_distance}
    identity = digest(manifest, parameters | {"source": source})
    if occupied(target):
        return open_same(target, identity, shard)

    if shard:
        shard.check_filled(len(manifest.images))
        first, end = ((number * len(manifest.images)) // shard.of for number in (shard.number - 1, shard.number))
        manifest = replace(manifest, images=manifest.images.iloc[first:end].reset_index(drop=True))
    partial = target.with_name(target.name + ".partial")
    jobs = _jobs(manifest, partial, size)
    with Journal(partial, f"{identity} {shard}" if shard else identity, len(jobs), size) as journal:
        waiting = [job for job in jobs if not journal.holds(job)]
        for done, pixels in track(_work(waiting, workers), "preparing", total=len(waiting)):
            journal.add(done, pixels, jobs[done.row])
        results = journal.results()
    kept = [row for row, done in enumerate(results) if not done.reason]
    if not kept and not shard:
        shutil.rmtree(partial)
        raise nothing_left(manifest.root, (done.reason for done in results))

    _compact(partial, kept)
    moved = _moved(manifest, results, kept)
    write_manifest(moved, partial / "manifest")
    write_fingerprints(partial)
    groups = write_duplicates(partial, moved.images["image_id"], duplicates_distance)
    if not shard:
        remove_fingerprints(partial)
    rejected = [(done.path, done.reason) for done in results if done.reason]
    rejected += [pair for done in results if not done.reason for pair in done.rejected_masks]
    pd.DataFrame(rejected, columns=["path", "reason"]).to_csv(partial / "rejected.csv", index=False)
    info = {
        "source": source,
        "root": str(manifest.root.resolve()),
        "options": dict(options or {}),
        "identity": identity,
        **({"shard": str(shard)} if shard else {}),
        "parameters": parameters,
        "classes": list(manifest.classes),
        "counts": {
            "listed": len(jobs),
            "prepared": len(kept),
            "rejected": len(jobs) - len(kept),
            "rejected_masks": len(rejected) - (len(jobs) - len(kept)),
            "duplicate_groups": groups,
        },
        "versions": _versions(),
    }
    Journal.remove(partial)
    return finish(partial, target, info)


def finish(partial: Path, target: Path, info: Mapping[str, Any]) -> PreparedSet:
    """Write ``prepared.yaml`` into a set that is whole but for it, and move it to its place."""
    (partial / "prepared.yaml").write_text(
        yaml.safe_dump(dict(info), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    if target.is_dir():
        target.rmdir()
    partial.rename(target)
    return open_prepared(target)


def open_same(target: Path, identity: str, shard: Shard | None = None) -> PreparedSet:
    """Open what is there already; raises UserError where it is something else."""
    if not target.is_dir() or not (target / "prepared.yaml").is_file():
        raise UserError(f"{target} exists and is not a prepared set; choose another folder or remove it")
    prepared = open_prepared(target)
    if prepared.info.get("identity") != identity:
        raise UserError(f"{target} was prepared from other photographs or settings; remove it or choose another folder")
    prepared.check_shard(shard)
    return prepared


def occupied(folder: Path) -> bool:
    """Whether there is something in the place of a set to be made."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def nothing_left(root: Path | str, reasons: Iterable[str]) -> UserError:
    """What to say where every photograph was rejected for one of these reasons."""
    reason = Counter(reasons).most_common(1)
    why = f"most often: {reason[0][0]}" if reason else "the manifest names none"
    return UserError(f"no photograph under {root} can be prepared ({why}); check the source and its root")


def _jobs(manifest: Manifest, partial: Path, size: int) -> list[Job]:
    masks: dict[str, dict[str, list[str]]] = {}
    rows = zip(manifest.lesions["image_id"], manifest.lesions["finding"], manifest.lesions["path"], strict=True)
    for image_id, finding, path in rows:
        masks.setdefault(image_id, {}).setdefault(finding, []).append(path)
    points = manifest.images[list(COORDINATES)].to_numpy(dtype=float)
    pairs = zip(manifest.images["image_id"], manifest.images["path"], strict=True)
    return [
        Job(
            row,
            image_id,
            str(manifest.root),
            path,
            tuple(points[row].tolist()),
            masks.get(image_id, {}),
            str(partial),
            size,
            manifest.lesion_above,
        )
        for row, (image_id, path) in enumerate(pairs)
    ]


def _work(jobs: list[Job], workers: int) -> Iterator[tuple[Done, bytes]]:
    """Results of ``jobs`` as they come; never more than a few pictures in memory, however long the list."""
    if workers <= 0:
        yield from map(develop, jobs)
        return
    running: set[Future[tuple[Done, bytes]]] = set()
    queue = iter(jobs)
    with worker_pool(workers) as pool:
        while True:
            while len(running) < 2 * workers and (job := next(queue, None)) is not None:
                running.add(pool.submit(develop, job))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def _compact(partial: Path, kept: list[int]) -> None:
    """Make ``pixels.npy`` of the rows that survived, in order; ``rows.npy`` stays until the set is whole."""
    with (partial / "pixels.npy").open("wb") as out, (partial / "rows.npy").open("rb") as source:
        shape, dtype = read_header(source)
        write_header(out, (len(kept), *shape[1:]), dtype)
        start, length = source.tell(), math.prod(shape[1:])
        for row in kept:
            source.seek(start + row * length)
            out.write(source.read(length))


def _moved(manifest: Manifest, results: list[Done], kept: list[int]) -> Manifest:
    """The tables of the photographs that survived, all in their order; points in the prepared frame."""
    images = manifest.images.iloc[kept].reset_index(drop=True)
    images[list(COORDINATES)] = np.array([results[row].points for row in kept], dtype=float).reshape(-1, 4)
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
