"""Run the round of ``docs/howto/first-round.md`` on drawn eyes with simulated readers.

    python docs/figures/first_round.py [FOLDER]

prints the tables of the page, writes its numbers to ``first_round.json`` and the pictures to ``docs/annotation/``. The
commands are those of the page; the readers send what the page in a browser sends. About six minutes of one core.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import uuid4

import httpx2
from serving import new_links, served
from simulated_readers import Habits, SimulatedReader

from fundusnet.data.decode import read_mask
from fundusnet.data.manifest import Manifest
from fundusnet.data.regions import regions_touched
from fundusnet.data.sources.synthetic import load

HERE = Path(__file__).resolve().parent
NUMBERS = HERE / "first_round.json"
FINDINGS = ("hard_exudate", "hemorrhage", "drusen", "cotton_wool_patch")
READERS = ("anna", "ben", "carl")
PEOPLE = (*READERS, "ada")
SCORES = ("auroc", "sensitivity", "specificity")
RUNS = ("round1", "round2")
ROUND, POOL, TEST, SIZE = 50, 200, 200, 512
TRAIN = (
    "experiment=findings", "data=csv", f"finding.names=[{','.join(FINDINGS)}]", f"data.size={SIZE}", "data.views=4",
    "data.fractions=[0.8,0.2,0]", "trainer.max_epochs=20", "trainer.accelerator=cpu",
)  # fmt: skip

Truth = Mapping[str, Mapping[str, frozenset[str]]]


def run_round(folder: Path, pictures: Path | None = None) -> dict[str, Any]:
    """Run the round in ``folder`` and return its numbers; show the pages to a browser that writes ``pictures``."""
    pool = load(folder / "pool", images=POOL, size=SIZE, seed=11, findings=FINDINGS)
    load(folder / "test", images=TEST, size=SIZE, seed=12, findings=FINDINGS, miss=0.0, false_mark=0.0)
    truth, names = _truth(pool), list(pool.images["image_id"])
    readers = {name: SimulatedReader(number, Habits()) for number, name in enumerate(READERS)}
    photographs = folder / "photographs"
    photographs.mkdir()
    fundusnet = _program(folder)
    study = ("data.root=photographs", "folder=study")
    people = (f"annotators=[{','.join(READERS)}]", "adjudicators=[ada]", f"finding.names=[{','.join(FINDINGS)}]")

    _add(pool, names[:ROUND], photographs)
    with served(folder, *study, *people, people=PEOPLE) as (address, links):
        _everybody_reads(address, links, readers, pool, truth)
    fundusnet("annotate", *study, "export=readings1")
    fundusnet("train", *TRAIN, "data.root=readings1", "run_dir=round1")

    _add(pool, names[ROUND:], photographs)
    with served(folder, *study, "checkpoint=round1", "order=uncertain", "suggest=0.5", people=PEOPLE) as (
        address,
        links,
    ):
        _wait_for_suggestions(folder / "study" / "study.sqlite", POOL)
        had = _everybody_reads(address, links, readers, pool, truth)
        with _signed_in(address, links["ada"]) as ada:
            effect = ada.get("/api/overview").json()["suggestions"]
        if pictures:
            from suggestion_pages import take_pictures

            take_pictures(address, new_links(folder, study, PEOPLE), folder / "study" / "study.sqlite", pictures)
    fundusnet("annotate", *study, "export=readings2")
    fundusnet("train", *TRAIN, "data.root=readings2", "run_dir=round2")
    for run in RUNS:
        fundusnet("evaluate", f"run={run}", "data=csv", "data.root=test", "data.folder=prepared_test")
    return {
        "images": effect["images"],
        "seconds": effect["seconds"],
        "findings": {row.pop("finding"): row for row in effect["findings"]},
        "present": {finding: _present(finding, had, truth) for finding in FINDINGS},
        "networks": {run: _scores(folder / run / "evaluations" / "csv-test" / "metrics.json") for run in RUNS},
    }


def tables(numbers: Mapping[str, Any]) -> list[str]:
    """The tables of the page, one after another, as lines of Markdown."""
    lines = ["| | photographs | readings | median time |", "|---|---|---|---|"]
    for name in ("with", "without"):
        time_ = numbers["seconds"][name]
        value = _with_interval(time_["median"], time_["interval"], "{:.0f} s")
        lines.append(f"| {name} suggestions | {numbers['images'][name]} | {time_['readings']} | {value} |")
    lines += [
        "",
        "| | suggestions | truly there | readings that mark it | κ by image | κ by region |",
        "|---|---|---|---|---|---|",
    ]
    for finding, row in numbers["findings"].items():
        for name in ("with", "without"):
            group = row[name]
            cells = [f"{numbers['present'][finding][name]:.0%}"]
            cells.append(_with_interval(group["marked"], group["marked_interval"], "{:.0%}"))
            cells += [_with_interval(group[key], group[f"{key}_interval"]) for key in ("kappa_image", "kappa_region")]
            lines.append(f"| {_words(finding)} | {name} | {' | '.join(cells)} |")
    lines += ["", "| | suggested | confirmed | confirmed, then changed | refused |", "|---|---|---|---|---|"]
    for finding, row in numbers["findings"].items():
        counts = [row["outcomes"][name] for name in ("confirmed", "changed", "refused")]
        lines.append(f"| {_words(finding)} | {row['suggested']} | {' | '.join(map(str, counts))} |")
    lines += ["", "| | after | AUROC | sensitivity | specificity |", "|---|---|---|---|---|"]
    for finding in FINDINGS:
        for run, read in zip(RUNS, (ROUND, 2 * ROUND), strict=True):
            found = numbers["networks"][run][finding]
            figures = [_with_interval(found[name]["value"], found[name]["ci95"]) for name in SCORES]
            lines.append(f"| {_words(finding)} | {read} photographs | {' | '.join(figures)} |")
    return lines


def _with_interval(value: float | None, interval: list[float] | None, form: str = "{:.2f}") -> str:
    if value is None:
        return "–"
    text = form.format(value) + (f" ({form.format(interval[0])} to {form.format(interval[1])})" if interval else "")
    return text.replace("-", "−")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _truth(pool: Manifest) -> Truth:
    """Image → finding → regions that its lesions touch."""
    found: dict[str, dict[str, frozenset[str]]] = {
        name: dict.fromkeys(FINDINGS, frozenset()) for name in pool.images["image_id"]
    }
    points = pool.images.set_index("image_id")
    for image_id, finding, path in pool.lesions.itertuples(index=False, name=None):
        if path:
            row = points.loc[image_id]
            mask = read_mask(pool.root / path)
            found[image_id][finding] = regions_touched(mask, (row.disc_x, row.disc_y), (row.fovea_x, row.fovea_y))
    return found


def _add(pool: Manifest, names: list[str], photographs: Path) -> None:
    paths = pool.images.set_index("image_id")["path"]
    for name in names:
        shutil.copy(pool.root / paths[name], photographs)


def _program(folder: Path) -> Callable[..., None]:
    def run(*words: str) -> None:
        print("fundusnet", *words, flush=True)
        subprocess.run([sys.executable, "-m", "fundusnet", *words], cwd=folder, check=True)

    return run


@contextmanager
def _signed_in(address: str, link: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=60) as client:
        client.get(link)
        client.headers["X-CSRF-Token"] = client.get("/api/session").json()["csrf"]
        yield client


def _everybody_reads(
    address: str, links: Mapping[str, str], readers: Mapping[str, SimulatedReader], pool: Manifest, truth: Truth
) -> dict[str, bool]:
    """Each reader reads the next photographs of their list; returns whether each of these has a suggestion."""
    points = pool.images.set_index("image_id")
    had = {}
    for name, reader in readers.items():
        with _signed_in(address, links[name]) as client:
            queue = client.get("/api/queue").json()["images"]
            for image_id in [entry["image_id"] for entry in queue if entry["state"] == "todo"][:ROUND]:
                row = points.loc[image_id]
                had[image_id] = _read(
                    client, image_id, reader, truth[image_id], [row.disc_x, row.disc_y], [row.fovea_x, row.fovea_y]
                )
    return had


def _read(
    client: httpx2.Client, image_id: str, reader: SimulatedReader, truth: Mapping[str, frozenset[str]],
    disc: list[float], fovea: list[float],
) -> bool:  # fmt: skip
    """Read a photograph as the page lets a reader; returns whether it has a suggestion."""
    while client.get(f"/api/images/{image_id}").status_code == 503:  # busy: a page tries again, too
        time.sleep(1)
    offered = client.get(f"/api/images/{image_id}/suggestion").json()
    ready = offered["state"] == "ready"
    if ready:
        shown = {"networks": offered["networks"]}
        client.put(f"/api/images/{image_id}/suggestion", json=shown).raise_for_status()
    reading = reader.read(truth, offered if ready else None)
    answer = {
        "version": 0, "change": str(uuid4()), "state": "done", "normal": not reading.marks, "ungradable": None,
        "findings": {finding: sorted(regions) for finding, regions in reading.marks.items()}, "comment": "",
        "disc": disc, "fovea": fovea, "disc_origin": "placed", "fovea_origin": "placed",
        "seconds": round(reading.seconds, 1),
        "suggestion": {"networks": offered["networks"], "verdicts": reading.verdicts} if ready else None,
    }  # fmt: skip
    client.put(f"/api/images/{image_id}/answer", json=answer).raise_for_status()
    return ready


def _present(finding: str, had: Mapping[str, bool], truth: Truth) -> dict[str, float]:
    """Share of the photographs with and without suggestions that truly show a finding."""
    groups = {"with": [name for name in had if had[name]], "without": [name for name in had if not had[name]]}
    return {group: mean(bool(truth[name][finding]) for name in names) for group, names in groups.items()}


def _wait_for_suggestions(file: Path, count: int) -> None:
    """Until the networks have looked at all photographs, so that the most uncertain ones are known."""
    while True:
        with sqlite3.connect(file) as connection:
            if connection.execute("SELECT count(*) FROM suggestions").fetchone()[0] >= count:
                return
        time.sleep(1)


def _scores(file: Path) -> dict[str, Any]:
    """Figures of each finding on the test eyes, with 95% intervals."""
    metrics = json.loads(file.read_text())["metrics"]
    return {finding: {name: metrics[f"{finding}/{name}"] for name in SCORES} for finding in FINDINGS}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(place)
        result = run_round(work.resolve(), HERE.parent / "annotation")
    NUMBERS.write_text(json.dumps(result, indent=1) + "\n")
    print(*tables(result), sep="\n")
