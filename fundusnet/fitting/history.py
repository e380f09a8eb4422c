"""``history.csv``: a row an epoch, readable while the training runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from fundusnet.system.files import replacing


class History(Callback):
    """Writes every logged metric of an epoch to a CSV row; rewrites the file, since columns may be added later."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        row = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step), "lr": rate, **logged}
        self.rows.append(row)
        columns = list(dict.fromkeys(name for each in self.rows for name in each))
        with replacing(self.file) as partial, partial.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, object]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        rows = state_dict["rows"]
        assert isinstance(rows, list)
        self.rows = rows
