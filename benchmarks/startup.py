"""What one waits for at the command line: the first step of a training, and the answer to a mistake.

Processor time of whole processes, each started several times, the smallest of each: what is read from the disk lies in
memory by then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from benchmarks.measuring import Figure, children_time, once, show

ROUNDS = 2
REFUSED = {
    "train, a wrong key": ["train", "experiment=findings", "data.root=x", "model.network.widht=8"],
    "train, a missing folder": ["train", "experiment=findings", "data=csv", "data.root=nowhere"],
    "evaluate, a missing run": ["evaluate", "run=nowhere"],
}


class ExitAtFirstStep(Callback):
    """Ends the process as soon as the first batch has been trained on."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: object) -> None:
        (Path(trainer.default_root_dir) / "reached").touch()
        os._exit(0)


def measure() -> Iterator[Figure]:
    """The first step over the imports, and the seconds of each refusal."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "experiment=quickstart", "data.options.images=60", f"data.root={folder}/eyes",
                 "+callbacks.stop._target_=benchmarks.startup.ExitAtFirstStep"]  # fmt: skip
        _fundusnet(Path(folder), *words)  # draws and prepares the photographs
        imports, first = [], []
        for number in range(ROUNDS):
            imports.append(_spent(Path(folder), sys.executable, "-c", "import torch, pytorch_lightning"))
            first.append(_fundusnet(Path(folder), *words, f"run_dir={folder}/run{number}"))
            if not (Path(folder) / f"run{number}" / "reached").exists():
                raise RuntimeError("the training did not reach its first step")
        yield once("fundusnet train to the end of its first step", "python -c 'import torch, pytorch_lightning'",
                   min(first) / min(imports), goal=1.3, limit=True,
                   detail=f"{min(first):.1f} against {min(imports):.1f} s",
                   miss="timm, albumentations, scipy and pandas are imported too")  # fmt: skip
        for what, wrong in REFUSED.items():
            seconds = min(_fundusnet(Path(folder), *wrong) for _ in range(ROUNDS))
            yield once(what, "a limit", seconds, goal=1.0, limit=True, unit=" s",
                       miss="half of it is Hydra, which composes the settings twice")  # fmt: skip


def _fundusnet(folder: Path, *words: str) -> float:
    return _spent(folder, sys.executable, "-m", "fundusnet", *words)


def _spent(folder: Path, *command: str) -> float:
    """Processor seconds of a command that is run in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    before = children_time()
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return children_time() - before


if __name__ == "__main__":
    show(measure())
