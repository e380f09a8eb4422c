"""A training step of both systems as fundusnet makes it, against plain Lightning and against a loop written by hand.

One thread, random weights and batches in memory, so that only the step counts: forward and backward pass, clipping,
optimiser, and what Lightning and callbacks do between two steps.

The sub-classifiers of a ranking are computed one after another. Together, by ``torch.func.stack_module_state`` and
``vmap``, which makes grouped convolutions of theirs, forward and backward pass of two (224 px, four images) took 2.2
times as long with DenseNet121, 1.6 times with ResNet18 and 2.6 times with EfficientNet-Lite0 in fp32, and 3.6 to 3.7
times under bf16 autocast, which does not reach convolutions within ``vmap``. CUDA streams are not used either: there
was no GPU to measure them on, and a batch of 32 images of 512 px should occupy one by itself.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.measuring import Figure, Seconds, ratio, show
from fundusnet import compose
from fundusnet.config.objects import build
from fundusnet.findings.module import GuidedModule, map_size
from fundusnet.fitting.module_arguments import module_arguments
from fundusnet.fitting.optimizers import build_optimizer
from fundusnet.fitting.precision import choose_precision
from fundusnet.grading.stage import RankingStage
from fundusnet.system.log_level import quiet_lightning

SIZE = 512
Batch = dict[str, Tensor]


def measure() -> Iterator[Figure]:
    """Both systems at 512 pixels, the first also against a loop by hand."""
    torch.set_num_threads(1)
    cfg = compose(["data.root=x", "finding=hard_exudate"])
    cells = map_size(SIZE, 1, module_arguments(cfg.model)["network"])
    images = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = {
        "image": images,
        "label": torch.tensor([[0.0], [1.0]] * 2),
        "cue": torch.randint(0, 2, (4, 1, cells, cells)).float(),
        "index": torch.arange(4),
    }

    precision = precision_of(guided(cfg, channels_last=True), images[:2])
    taken = _in_turn(
        {
            "ours": lambda: _ours(cfg, guided(cfg, channels_last=True), batch, precision),
            "plain": lambda: _plain(guided(cfg, channels_last=False), batch),
            "by hand": lambda: _by_hand(
                guided(cfg, channels_last=True), batch, precision, cfg.trainer.gradient_clip_val
            ),
        },
        rounds=5,
    )
    what = f"training step, guided network, {SIZE} px ({precision})"
    miss = "what the processor gains by bf16 decides it; channels_last alone gains a fifth"
    yield ratio(
        what, "the same network in plain Lightning (32-true)", taken["ours"], taken["plain"], goal=2.5, miss=miss
    )
    yield ratio(what, "a loop by hand, same precision and layout", taken["ours"], taken["by hand"], goal=0.97,
                miss="Lightning's loop and the loss's check for NaN")  # fmt: skip
    yield _ranking()


def _ranking() -> Figure:
    cfg = compose(["experiment=paper_grading_ranking", "data.root=x", "model.network.pretrained=false"])
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = {"image": images, "grade": torch.tensor([0, 1]), "index": torch.arange(2)}

    def stage(classes: int, channels_last: bool) -> RankingStage:
        return RankingStage(classes, **{**module_arguments(cfg.model), "channels_last": channels_last})

    precision = precision_of(stage(3, channels_last=True), images)
    taken = _in_turn(
        {
            "ours": lambda: _ours(cfg, stage(3, channels_last=True), batch, precision, steps=2),
            "plain": lambda: 2 * _plain(stage(2, channels_last=False), batch, steps=2),
        },
        rounds=3,
    )
    what = f"training step, ranking of 3 grades, 2 × DenseNet121, {SIZE} px ({precision})"
    return ratio(what, "two plain Lightning trainings (32-true), one after the other", taken["ours"], taken["plain"],
                 goal=2.5, miss="two thirds of the step are no convolutions and wait for memory")  # fmt: skip


def _in_turn(calls: dict[str, Callable[[], float]], rounds: int) -> Seconds:
    """Seconds of a step that each call returns, in turn."""
    taken: Seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            taken[name].append(call())
    return taken


def guided(cfg: DictConfig, channels_last: bool) -> GuidedModule:
    """The guided network of ``cfg``, untrained."""
    return GuidedModule(["hard_exudate"], SIZE, **{**module_arguments(cfg.model), "channels_last": channels_last})


def our_trainer(cfg: DictConfig, folder: Path, precision: Any, epochs: int, *callbacks: Callback) -> pl.Trainer:
    """The Trainer of every fit, on a processor."""
    with quiet_lightning():
        trainer: pl.Trainer = build(
            cfg.trainer,
            folder=folder,
            seed=0,
            callbacks=callbacks,
            loggers=[],
            precision=precision,
            accelerator="cpu",
            max_epochs=epochs,
        )
    return trainer


def lightning_defaults(folder: Path, epochs: int, *callbacks: Callback) -> pl.Trainer:
    """Lightning's Trainer as a script would make it, but silent."""
    with quiet_lightning():
        return pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            default_root_dir=folder,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def precision_of(module: GuidedModule | RankingStage, image: Tensor) -> Any:
    """What ``trainer.precision=auto`` chooses for this module."""
    picture = image.float().div(255).contiguous(memory_format=module.memory_format)
    with tempfile.TemporaryDirectory() as folder:
        return choose_precision("auto", "cpu", module.network, lambda: picture, Path(folder))


class _StepClock(Callback):
    """Processor time between the ends of two steps."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *arguments: object) -> None:
        self.ends.append(time.process_time())

    def median(self) -> float:
        return statistics.median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def _ours(cfg: DictConfig, module: pl.LightningModule, batch: Batch, precision: Any, steps: int = 6) -> float:
    clock = _StepClock()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = our_trainer(cfg, Path(folder), precision, 1, clock)
        trainer.fit(module, DataLoader([batch] * (steps + 1), batch_size=None), DataLoader([batch], batch_size=None))
    return clock.median()


def _plain(module: pl.LightningModule, batch: Batch, steps: int = 6) -> float:
    clock = _StepClock()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        lightning_defaults(Path(folder), 1, clock).fit(module, DataLoader([batch] * (steps + 1), batch_size=None))
    return clock.median()


def _by_hand(module: GuidedModule, batch: Batch, precision: str, clip: float, steps: int = 6) -> float:
    network, loss = module.network.train(), module.loss
    assert loss is not None and module.make_optimizer is not None
    optimizer = build_optimizer(module.make_optimizer, network)
    taken = []
    for _ in range(steps + 1):
        start = time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            picture = batch["image"].float().div(255).contiguous(memory_format=torch.channels_last)
            value = loss(*network(picture), batch["label"], batch["cue"], 0)["loss"]
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    show(measure())
