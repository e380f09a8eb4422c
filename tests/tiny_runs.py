"""Trainings small enough to run several of them in a test: 23 drawn discs, a network of four channels."""

from __future__ import annotations

from pathlib import Path

from tiny import tiny_prepared


def tiny_place(folder: Path) -> Path:
    """``folder`` with a prepared set in it."""
    tiny_prepared(folder)
    return folder


def tiny_overrides(place: Path) -> list[str]:
    """What ``fundusnet train`` needs to train on the set in ``place``: four steps of four pictures an epoch."""
    return [
        "data=csv",
        f"data.root={place}/raw",
        f"data.folder={place}/prepared",
        "finding=drusen",
        "data.size=64",
        "data.num_workers=0",
        "data.batch_size=4",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "model.network.width=4",
        "model.network.reductions=3",
        "model.network.pyramid_width=4",
        "evaluation.bootstrap=20",
    ]
