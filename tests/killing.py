"""A training in a process of its own that is sent a signal at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import torch
from omegaconf import DictConfig


def killed(cfg: DictConfig, moment: str, step: int, number: signal.Signals = signal.SIGKILL) -> int | None:
    """Train in a process of its own that sends itself a signal; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fundusnet.commands.train", "fundusnet.findings.task"])
    process = context.Process(target=_train_until, args=(cfg, moment, step, number))
    process.start()
    process.join(240)
    return process.exitcode


def _train_until(cfg: DictConfig, moment: str, step: int, number: signal.Signals) -> None:
    """Runs in the other process: a callback's hook called ``moment`` sends the signal from ``step`` on."""
    from fundusnet import train
    from fundusnet.fitting.resume import Reseed

    torch.set_num_threads(1)
    # Loader workers are forked, as they are where no test stands above the training.
    multiprocessing.set_start_method("fork", force=True)

    def hook(self: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step >= step:
            os.kill(os.getpid(), number)

    setattr(Reseed, moment, hook)
    train(cfg)
