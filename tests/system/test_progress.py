"""Bars that show on a terminal, and nowhere else; libraries that hold their tongue."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import pytorch_lightning  # noqa: F401  # what it says when asked is what must be heard again

from fundusnet.system.log_level import quiet_lightning

COUNT = """
from fundusnet.system.progress import track
for items in (range(3), [], (each for each in range(4))):
    for _ in track(items, "counting"):
        pass
"""

FIT = """
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader
from fundusnet.fitting.progress import FitProgress
from fundusnet.system.log_level import quiet_lightning

class Module(pl.LightningModule):
    def __init__(self, fails):
        super().__init__()
        self.fails = fails
        self.weight = torch.nn.Parameter(torch.ones(1))
    def training_step(self, batch, _):
        loss = (self.weight * batch["x"]).square().mean()
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        if self.fails:
            raise RuntimeError("out of luck")
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

for fails in (False, True):
    with quiet_lightning():
        loader = DataLoader([{"x": torch.ones(1)} for _ in range(4)], batch_size=2)
        trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, callbacks=[FitProgress()],
                             enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False)
        trainer.fit(Module(fails), loader)
"""


def on_a_terminal(code: str, cwd: Path) -> list[str]:
    """What stands on a terminal of 100 columns in the end: the last state of every line, without colours."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave, cwd=cwd, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the other side has closed
            break
        if not piece:
            break
        shown += piece
    child.wait()
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in lines if line]


def test_a_bar_shows_on_a_terminal_and_stays_when_done(tmp_path: Path) -> None:
    known, unknown = on_a_terminal(COUNT, tmp_path)
    assert re.fullmatch(r"counting +━+ 3/3 0:00:00", known)
    assert re.fullmatch(r"counting +━+ 4/\?", unknown)


def test_nothing_is_drawn_into_a_file(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert answer.stdout + answer.stderr == ""


def test_a_fit_is_one_bar_over_all_epochs_and_a_failed_one_gives_the_terminal_back(tmp_path: Path) -> None:
    *epochs, done, failed, error = [line for line in on_a_terminal(FIT, tmp_path) if re.match("epoch|Runtime", line)]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all(re.search(r"train/loss \d\.\d{3}$", line) for line in epochs)
    assert re.fullmatch(r"epoch 3 of 3 +━+ 6/6 \d:\d\d:\d\d train/loss 0\.\d{3}", done)
    assert re.match(r"epoch 1 of 3 +.* 0/6", failed)
    assert error == "RuntimeError: out of luck"


def test_quiet_lets_warnings_pass_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet_lightning():
            logger.info("GPU available: False")
            logger.warning("something of yours")
            warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", FutureWarning, stacklevel=1)
            warnings.warn("Found 150 module(s) in eval mode at the start of training. This may", stacklevel=1)
            warnings.warn("your data are odd", UserWarning, stacklevel=1)
        logger.info("heard again")
    assert [str(warning.message) for warning in seen] == ["your data are odd"]
    assert caplog.messages == ["something of yours", "heard again"]


def test_without_a_terminal_each_epoch_is_a_line(tmp_path: Path) -> None:
    code = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s')\n" + FIT.replace(
        "(False, True)", "(False,)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all(re.search(r"train/loss \d\.\d{3}$", line) for line in lines)
