"""Throughput of ``predict`` beside the bare forward passes of its network, and its peak memory by photographs.

Drawn photographs of 512 pixels and an untrained network of the default width. Each round predicts a share of the
photographs with tables only, the same with heat maps, and passes as many prepared pictures through the network alone.
The network has one thread in all three, one process reads, and one thread draws. From the start of the first process to
the last row, without the report page, whose cost is bounded; in processor time, the cost where reading, drawing
and network share a core. Memory is that of a process of its own, with heat maps and page.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Figure, children_time, in_process, of_rounds, once, peak_mib, show

DISTINCT = 40  # photographs drawn; the others are links to them
SIZE, ROUNDS, SHARE = 512, 3, 96
FEW, MANY = 100, 2000


def measure() -> Iterator[Figure]:
    """Speed relative to the network alone, and growth of memory."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _draw(place)
        _checkpoint(place / "network.ckpt", width=16, size=SIZE)
        _checkpoint(place / "small.ckpt", width=4, size=64)
        spent = _throughput(place)
        for what in ("tables", "tables and heat maps"):
            share = [100 * a / b for a, b in zip(spent["bare"], spent[what], strict=True)]
            each = f"{1000 * np.median(spent[what]):.0f} against {1000 * np.median(spent['bare']):.0f} ms a photograph"
            yield of_rounds(f"predict, {what}, {SIZE} px", "the forward passes of its network alone", share,
                            goal=70.0, unit=" % of their speed", detail=each,
                            miss="a JPEG at the photograph's own size for each")  # fmt: skip
        peaks = {count: in_process("benchmarks.predict", place, count)["mib"] for count in (FEW, MANY)}
    yield once(f"peak memory of predict, {MANY:,} photographs", f"{FEW} photographs", peaks[MANY] / peaks[FEW],
               goal=1.1, limit=True, detail=f"{peaks[MANY]:.0f} against {peaks[FEW]:.0f} MiB")  # fmt: skip


def _throughput(place: Path) -> dict[str, list[float]]:
    """Processor seconds of a photograph in each round."""
    import torch

    from fundusnet import load
    from fundusnet.prediction.preparation import prepare_photograph

    torch.set_num_threads(1)
    predictor = load(place / "network.ckpt", device="cpu", points="given")
    batch = [prepare_photograph(file, predictor.specs) for file in sorted((place / "drawn").iterdir())[:16]]
    tensor = predictor.batch(batch, predictor.networks[0])

    def bare() -> float:
        passes = SHARE // len(batch)
        start = time.process_time()
        with torch.inference_mode():
            for _ in range(passes):
                predictor.networks[0].module(tensor)[1].cpu()
        return (time.process_time() - start) / (passes * len(batch))

    bare()
    spent: dict[str, list[float]] = {"bare": [], "tables": [], "tables and heat maps": []}
    for number in range(ROUNDS):
        spent["bare"].append(bare())
        for name in ("tables", "tables and heat maps"):
            spent[name].append(_predict(place, predictor, f"{name}{number}", draw="maps" in name))
    return spent


def _predict(place: Path, predictor: object, name: str, *, draw: bool) -> float:
    from fundusnet.commands.predict import predict_missing
    from fundusnet.config.compose import compose
    from fundusnet.prediction.inputs import find_inputs

    folder, output = _linked(place, name, SHARE), place / "out" / name
    output.mkdir(parents=True)
    switches = [f"heatmaps.draw={str(draw).lower()}", "batch_size=16", "workers=1", "points=given"]
    cfg = compose([f"output={output}", *switches], verb="predict")
    start = time.process_time() + children_time()
    predict_missing(output, [predictor], *find_inputs(folder), cfg)  # type: ignore[list-item]
    spent = (time.process_time() + children_time() - start) / SHARE
    shutil.rmtree(output)
    shutil.rmtree(folder)
    return spent


def _peak_mib(place: Path, count: int) -> float:
    """Peak memory of this process while it predicts ``count`` photographs with heat maps and page."""
    from fundusnet import compose, predict

    folder, output = _linked(place, f"memory{count}", count), place / "out" / f"memory{count}"
    cfg = [f"checkpoint={place}/small.ckpt", f"input={folder}", f"output={output}", "workers=2", "device=cpu"]
    predict(compose(cfg, verb="predict"))
    return peak_mib()


def _linked(place: Path, name: str, count: int) -> Path:
    """A folder of ``count`` photographs, links to the drawn ones."""
    folder = place / "in" / name
    folder.mkdir(parents=True)
    drawn = sorted((place / "drawn").iterdir())
    for number in range(count):
        (folder / f"{number:06d}.jpg").symlink_to(drawn[number % len(drawn)])
    return folder


def _draw(place: Path) -> None:
    from fundusnet.data.sources.synthetic import load

    load(place / "eyes", images=DISTINCT, size=SIZE, findings=["hard_exudate"])
    shutil.copytree(place / "eyes" / "images", place / "drawn")


def _checkpoint(file: Path, width: int, size: int) -> None:
    from fundusnet.config.compose import compose
    from fundusnet.data.appearance import Appearance
    from fundusnet.findings.module import GuidedModule
    from fundusnet.fitting.module_arguments import module_arguments
    from fundusnet.runs.checkpoints import KEY, write_checkpoint

    cfg = compose(["finding=hard_exudate", "data.root=x", f"model.network.width={width}", f"data.size={size}"])
    names = list(cfg.finding.names)
    module = GuidedModule(names, size, **module_arguments(cfg.model))
    appearance = Appearance.of(np.random.default_rng(0).normal(size=(50, 7)))
    stored = {"task": "findings", "findings": names, "size": size, "operating_points": dict.fromkeys(names, 0.5)}
    stored["appearance"] = appearance.plain() if appearance else None
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), KEY: stored}
    write_checkpoint(file, content)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps({"mib": _peak_mib(Path(sys.argv[1]), int(sys.argv[2]))}))
    else:
        show(measure())
