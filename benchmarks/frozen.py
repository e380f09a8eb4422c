"""Epochs on a frozen backbone: its features are computed once, before the first.

The recommended recipe of grading with one backbone and eight views, on drawn eyes, from the start of the fit to the end
of the first epoch, and each epoch after it, in processor time.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pytorch_lightning.callbacks import Callback

import fundusnet
from benchmarks.measuring import Figure, in_process, once, show

ENDS: list[float] = []


class EpochClock(Callback):
    """Processor time at the end of each epoch."""

    def on_train_epoch_end(self, *arguments: object) -> None:
        ENDS.append(time.process_time())


def measure() -> Iterator[Figure]:
    """An epoch after the first over the first."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_process("benchmarks.frozen", folder)
    yield once("an epoch after the first, frozen backbone", "the first epoch, which computes the features",
               100 * seconds["later"] / seconds["first"], goal=5.0, limit=True, unit=" % of it",
               detail=f"{seconds['later']:.2f} against {seconds['first']:.1f} s")  # fmt: skip


def _epochs(folder: Path) -> dict[str, float]:
    words = ["experiment=grading", "data=synthetic", f"data.root={folder}/eyes", f"data.folder={folder}/set",
             "data.options.images=60", "data.size=384", "data.fractions=[0.6,0.2,0.2]", "trainer.max_epochs=9",
             "data.views=8", "model.network.backbone=tf_efficientnet_lite0", "evaluation.bootstrap=20",
             "+callbacks.clock._target_=benchmarks.frozen.EpochClock"]  # fmt: skip
    fundusnet.prepare(fundusnet.compose(words[1:6], "prepare"))
    start = time.process_time()
    fundusnet.train(fundusnet.compose([*words, f"run_dir={folder}/run"]))
    return {"first": ENDS[0] - start, "later": statistics.median(b - a for a, b in pairwise(ENDS))}


if __name__ == "__main__":
    if sys.argv[1:]:
        from benchmarks import frozen  # not __main__: the callback is found by this name

        print(json.dumps(frozen._epochs(Path(sys.argv[1]))))
    else:
        show(measure())
