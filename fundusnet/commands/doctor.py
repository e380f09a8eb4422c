"""What the machine offers, and what a training will need of it: the ``doctor`` verb."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from fundusnet.config.conf import select
from fundusnet.data.prepare import prepare_jobs
from fundusnet.data.prepare_one import prepare_one
from fundusnet.data.prepared import open_prepared
from fundusnet.data.set_folders import newest, prepared_folder
from fundusnet.data.sources import load_source
from fundusnet.fitting.fit import check_objects
from fundusnet.fitting.machine import Line, offered
from fundusnet.fitting.needs import Needs, PlannedFit, measure
from fundusnet.fitting.tasks import task_of
from fundusnet.networks.backbones import PACKAGES
from fundusnet.system.devices import choose_device
from fundusnet.system.workers import cores

TRIED = 3  # photographs that are prepared to see how long it takes
LONG = 6 * 3600  # seconds


def doctor(cfg: DictConfig) -> None:
    """Print what the machine offers and, for ``cfg.data``, what its training will need, each with one line of advice.

    Raises:
        UserError: The source or the network of ``cfg`` is wrong.
    """
    _print("this machine", offered(Path()))
    if select(cfg, "data") is None:
        print("\nWhat a training needs: fundusnet doctor experiment=findings data=csv data.root=FOLDER finding=NAME")
        return
    check_objects(cfg)
    _print(f"this training: {task_of(cfg).run_name(cfg)}, data={cfg.data.source}", needed(cfg))


def needed(cfg: DictConfig) -> Iterator[Line]:
    """What the training of ``cfg`` needs: photographs, preparation, weights, memory, time."""
    count, lines = _photographs(cfg)
    yield from lines
    weights = _weights(cfg)
    if weights:
        yield weights
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    size, batch = int(cfg.data.size), int(cfg.data.batch_size)
    fits = task_of(cfg).planned_fits(_without_weights(cfg))
    needs = [measure(fit.module, size, batch, device) for fit in fits]
    yield from _room(max(needs, key=lambda each: each.step_bytes), batch, device.type)
    yield from _time(cfg, fits, needs, count)


def _photographs(cfg: DictConfig) -> tuple[int, list[Line]]:
    """How many photographs there are, and what preparing them takes."""
    folder, size = newest(prepared_folder(cfg)), int(cfg.data.size)
    if (folder / "prepared.yaml").is_file():
        count = len(open_prepared(folder))
        return count, [Line("photographs", f"{count}, prepared in {folder}")]
    if cfg.data.source == "synthetic":
        count = int(cfg.data.options.images)
        return count, [Line("photographs", f"{count}, drawn on first use")]
    options: Any = OmegaConf.to_container(cfg.data.options, resolve=True)
    manifest = load_source(cfg.data.source, Path(cfg.data.root), options)
    count = len(manifest.images)
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        jobs = prepare_jobs(manifest, Path(place), size)[:TRIED]
        for job in jobs:
            prepare_one(job)
        each = (time.perf_counter() - start) / max(len(jobs), 1)
    room, free = 3 * size**2 * count, shutil.disk_usage(Path()).free
    value = f"once, {duration(each * count / cores())} and {_bytes(room)} in {folder}"
    advice = "the disk has less: lower data.size, or choose a data.folder on another disk" if room > free else ""
    return count, [Line("photographs", str(count)), Line("preparation", value, advice)]


def _without_weights(cfg: DictConfig) -> DictConfig:
    """``cfg`` with random weights: they compute as long as others, and need no connection."""
    blank = cfg.copy()
    OmegaConf.resolve(blank)
    with open_dict(blank):
        for key in ("model.network", "model.stage1.network"):
            if (network := select(blank, key)) is not None and "pretrained" in network:
                network.pretrained = False
    return blank


def _weights(cfg: DictConfig) -> Line | None:
    """Where the weights of a pretrained backbone come from."""
    network = cfg.model.network
    if not network.get("pretrained") or network.get("weights"):
        return None
    name = str(network.backbone)
    if all(part.removesuffix(".in1k") in PACKAGES for part in name.split("+")):
        return Line("weights", f"{name}, from fundusnet[weights] or timm's hub")
    return Line("weights", f"{name}, from timm's hub or its cache", "without a connection use tf_efficientnet_lite0")


def _room(needs: Needs, batch: int, device: str) -> Iterator[Line]:
    advice = ""
    if needs.step_bytes > needs.free_bytes:
        fits = int(0.8 * batch * needs.free_bytes / needs.step_bytes)
        advice = f"lower data.batch_size{f' to {fits}' if fits else ''}, or data.size"
    where = "GPU" if device == "cuda" else "memory"
    yield Line(where, f"{_bytes(needs.step_bytes)} a step of {batch} images, {_bytes(needs.free_bytes)} free", advice)


def _time(cfg: DictConfig, fits: Sequence[PlannedFit], needs: Sequence[Needs], count: int) -> Iterator[Line]:
    """What frozen backbones compute once, and the time of an epoch and of all fits."""
    shares = list(cfg.data.fractions)
    train, views = count * shares[0] / sum(shares), int(cfg.data.views or 0)
    total, trains = 0.0, False
    for number, (fit, need) in enumerate(zip(fits, needs, strict=True), start=1):
        stage = f"stage {number}, " if len(fits) > 1 else ""
        if need.feature_bytes:
            room, free = need.feature_bytes * count * (1 + views), shutil.disk_usage(Path()).free
            advice = "" if room < free else "the disk has less: lower data.views, or every epoch computes them"
            seconds = need.feature_seconds * (train * max(views, 1) + count - train)
            total += seconds
            yield Line("features", f"{stage}once, {duration(seconds)} and {_bytes(room)}", advice)
        trains |= not need.feature_bytes
        epoch = need.step_seconds * train
        total += epoch * fit.epochs * fit.count
        times = f", {fit.count} times" if fit.count > 1 else ""
        yield Line("epochs", f"{stage}{fit.epochs} of about {duration(epoch)}{times}")
    slow = total > LONG and trains
    advice = "on a GPU it is hours less, as with frozen features (experiment=findings, grading)" if slow else ""
    yield Line("in all", f"about {duration(total)} at the present load of the machine", advice)


def duration(seconds: float) -> str:
    """Seconds in words of two digits.

    Examples:
        >>> duration(0.2), duration(95), duration(3 * 3600)
        ('below a second', '95 s', '3.0 h')
    """
    if seconds < 1:
        return "below a second"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def _print(title: str, lines: Iterator[Line]) -> None:
    print(f"{title}")
    for line in lines:
        print(f"  {line.what:<12}{line.value}")
        if line.advice:
            print(f"  {'':<12}→ {line.advice}")
