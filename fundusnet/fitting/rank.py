"""``python -m fundusnet.fitting.rank FOLDER``: one of several processes that fit the config in FOLDER together."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from fundusnet.errors import UserError
from fundusnet.system.memory import keep_freed_memory
from fundusnet.system.orphans import die_with_parent


def main() -> None:
    """Fit; an error is recorded in the file that the parent process reads."""
    die_with_parent()
    keep_freed_memory()
    first = os.environ["RANK"] == "0"
    logging.basicConfig(level=logging.WARNING if first else logging.ERROR, format="%(message)s")
    logging.getLogger("fundusnet").setLevel(logging.INFO if first else logging.ERROR)
    from omegaconf import DictConfig, OmegaConf
    from torch.distributed.elastic.multiprocessing.errors import record

    from fundusnet.fitting.fit import fit_here
    from fundusnet.fitting.loggers import wandb_finished

    folder = Path(sys.argv[1])
    cfg = OmegaConf.load(folder / "config.yaml")
    assert isinstance(cfg, DictConfig)
    with wandb_finished():
        record(fit_here)(cfg, folder)


if __name__ == "__main__":
    try:
        main()
    except UserError:
        sys.exit(2)  # the line is recorded, and printed once by the parent process
