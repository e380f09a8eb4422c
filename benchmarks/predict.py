"""Throughput of ``predict`` against the bare forward passes of its network, and its peak memory by photographs.

    python benchmarks/predict.py [--pictures 1000] [--many 10000] [--rounds 2] [--device cpu]

Draws photographs of 512 pixels and makes a checkpoint of an untrained network of the default width. Each round
predicts a share of the photographs with tables only, the same with heat maps, and passes as many prepared images
through the network alone. On a CPU the network has one thread in all three, and one process reads, so that two cores
stand for a GPU and a CPU. Ratios are given in wall-clock time (is the network kept busy?) and in processor time
including the reading process (what does it cost if they share a core?). Memory is measured in a separate process.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DISTINCT = 40  # photographs drawn; the others are links to them
SIZE = 512

Spent = tuple[float, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # folder, number of photographs
    options = parser.parse_args()
    if options.memory:
        print(_peak_mib(Path(options.memory[0]), int(options.memory[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _draw(place)
        _checkpoint(place / "network.ckpt", width=16, size=SIZE)
        _checkpoint(place / "small.ckpt", width=4, size=64)
        ratios = _throughput(place, options.pictures, options.rounds, options.device)
        few, many = (_memory(place, count) for count in (100, options.many))
    print(json.dumps({**ratios, "peak_mib_100": few, f"peak_mib_{options.many}": many}))


def _throughput(place: Path, pictures: int, rounds: int, device: str) -> dict[str, float]:
    import torch

    from fundusnet import load
    from fundusnet.prediction.preparation import prepare_photograph

    if device == "cpu":
        torch.set_num_threads(1)
    predictor = load(place / "network.ckpt", device=device)
    share = pictures // rounds
    batch = [prepare_photograph(file, predictor.specs) for file in sorted((place / "drawn").iterdir())[:16]]
    tensor = predictor.batch(batch, predictor.networks[0])

    def bare() -> Spent:
        passes = share // len(batch)
        start = _now()
        with torch.inference_mode():
            for _ in range(passes):
                predictor.networks[0].module(tensor)[1].cpu()
        return _each(start, passes * len(batch))

    bare()
    spent: dict[str, list[Spent]] = {"bare": [], "tables": [], "heatmaps": []}
    for number in range(rounds):
        spent["bare"].append(bare())
        for name in ("tables", "heatmaps"):
            spent[name].append(_predict(place, predictor, f"{name}{number}", share, draw=name == "heatmaps"))
    seconds = {name: np.array(each) for name, each in spent.items()}
    answer = {"bare_per_second": round(1 / float(np.median(seconds["bare"][:, 0])), 2)}
    for name in ("tables", "heatmaps"):
        wall_clock, processor_time = np.median(seconds["bare"] / seconds[name], axis=0)
        answer |= {
            f"{name}_wall_clock": round(float(wall_clock), 3),
            f"{name}_processor_time": round(float(processor_time), 3),
        }
    return answer


def _predict(place: Path, predictor: object, name: str, count: int, *, draw: bool) -> Spent:
    """From the start of the first process to the last row, without the page, whose cost is bounded."""
    from fundusnet.commands.predict import predict_missing
    from fundusnet.config.compose import compose
    from fundusnet.prediction.inputs import find_inputs

    folder, output = _linked(place, name, count), place / "out" / name
    output.mkdir(parents=True)
    switches = [f"heatmaps.draw={str(draw).lower()}", "batch_size=16"]
    if str(predictor.device) == "cpu":  # type: ignore[attr-defined]
        switches.append("workers=1")
    cfg = compose([f"output={output}", *switches], verb="predict")
    start = _now()
    predict_missing(output, [predictor], *find_inputs(folder), cfg)  # type: ignore[list-item]
    spent = _each(start, count)
    shutil.rmtree(output)
    shutil.rmtree(folder)
    return spent


def _now() -> Spent:
    """Seconds of wall-clock time, and of processor time of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), time.process_time() + children.ru_utime + children.ru_stime


def _each(start: Spent, count: int) -> Spent:
    """Seconds per photograph since ``start``."""
    clock, processor = _now()
    return (clock - start[0]) / count, (processor - start[1]) / count


def _memory(place: Path, count: int) -> float:
    command = [sys.executable, __file__, "--memory", str(place), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(answer.stdout.strip().splitlines()[-1])


def _peak_mib(place: Path, count: int) -> float:
    """Peak memory of this process while it predicts ``count`` photographs with heat maps and page."""
    from fundusnet import compose, predict

    folder, output = _linked(place, f"memory{count}", count), place / "out" / f"memory{count}"
    cfg = [f"checkpoint={place}/small.ckpt", f"input={folder}", f"output={output}", "workers=2", "device=cpu"]
    predict(compose(cfg, verb="predict"))
    # Not ru_maxrss, which a process inherits from its parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


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

    cfg = compose(["experiment=findings", "data.root=x", f"model.network.width={width}", f"data.size={size}"])
    names = list(cfg.finding.names)
    module = GuidedModule(names, size, **module_arguments(cfg.model))
    appearance = Appearance.of(np.random.default_rng(0).normal(size=(50, 7)))
    stored = {"task": "findings", "findings": names, "size": size, "operating_points": dict.fromkeys(names, 0.5)}
    stored["appearance"] = appearance.plain() if appearance else None
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), KEY: stored}
    write_checkpoint(file, content)


if __name__ == "__main__":
    main()
