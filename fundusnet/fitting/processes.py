"""Several processes for one fit, started by torch's elastic agent; Hydra runs in the first process only.

There are two ways. A training with several devices starts processes (*ranks*) for each fit, waits for them outside of
their group, and continues alone. Under the user's own ``torchrun`` every process runs the command: the first one leads,
the others only take part in each fit.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from fundusnet.errors import RankError, UserError
from fundusnet.runs.folder import Interrupted
from fundusnet.system.devices import uses_gpu
from fundusnet.system.log_level import log_level

# Environment variables of one process of a group, which must not reach the processes of another group.
PLACE_IN_GROUP = (
    *("LOCAL_RANK", "RANK", "GLOBAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"),
)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FOREVER = timedelta(days=30)

Fit = Callable[..., None]  # as fundusnet.fitting.fit.fit


def processes(options: DictConfig) -> int:
    """The number of processes that ``trainer.devices`` asks for on this machine.

    Raises:
        UserError: srun started this command several times, or torch finds no such GPU.
    """
    gpu, devices = uses_gpu(options.accelerator), options.devices
    if OmegaConf.is_list(devices):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):
        count = max(torch.cuda.device_count(), 1) if gpu else 1
    else:
        count = int(devices)
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if count > 1 and tasks > 1 and not under_torchrun():
        raise UserError(
            f"srun started this command {tasks} times, and each would start {count} processes; "
            "ask for one task a node (--ntasks-per-node=1)"
        )
    return count


def fit_in_ranks(cfg: DictConfig, folder: Path, count: int) -> None:
    """Have ``count`` processes fit ``cfg`` into ``folder``, and wait for them.

    Raises:
        UserError: One of them raised it.
        RankError: One of them raised or was killed; the others have ended.
        Interrupted: SIGTERM arrived; the ranks have saved a checkpoint and ended.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    OmegaConf.save(cfg, folder / "config.yaml")
    # The agent would report a failure at length; it is reported here, in one line.
    elastic = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]
    with (
        tempfile.TemporaryDirectory(prefix="fundusnet-") as errors,
        _outside_of_any_group(count),
        _own_signals(),
        log_level(logging.CRITICAL, *elastic),
    ):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.5,
            logs_specs=DefaultLogsSpecs(log_dir=errors),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "fundusnet.fitting.rank", str(folder))
        except ChildFailedError as error:
            raise _reason(error) from error
        except SignalException as asked:
            raise (KeyboardInterrupt() if asked.sigval == signal.SIGINT else Interrupted()) from None


def claim_gpus(wanted: int, number: int) -> None:
    """Reserve GPUs of this machine for this process until it ends, so that each worker of a launcher has its own.

    If fewer than ``wanted`` are free, because there are more workers than GPUs, job ``number`` shares some.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    if _claimed or not names:
        return  # second job of a worker, or no GPU
    for name in names:
        if len(_claimed) < wanted:
            handle = os.open(Path(tempfile.gettempdir(), f"fundusnet-{os.getuid()}-gpu-{name}"), os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _claimed[name] = handle
            except BlockingIOError:
                os.close(handle)
    for shared in range(number, number + wanted - len(_claimed)):
        _claimed.setdefault(names[shared % len(names)], -1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_claimed)


_claimed: dict[str, int] = {}  # GPU → handle of its lock file


def under_torchrun() -> bool:
    """Whether this process was started by torchrun or a rank's agent."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_worker() -> bool:
    """Whether this is a further process of the user's torchrun, not the first."""
    return under_torchrun() and os.environ["RANK"] != "0"


def run_worker(fit: Fit) -> None:
    """Take part in every fit that the first process starts, until it needs no more."""
    while (folder := _receive()) is not None:
        cfg = OmegaConf.load(Path(folder) / "config.yaml")
        assert isinstance(cfg, DictConfig)
        fit(cfg, Path(folder))


def start_fit(cfg: DictConfig, folder: Path, fit: Fit) -> None:
    """Begin a fit in all processes of the user's torchrun."""
    OmegaConf.save(cfg, folder / "config.yaml")
    _broadcast(str(folder.resolve()))
    fit(cfg, folder)


@contextmanager
def release_workers() -> Iterator[None]:
    """Tell the other processes of the user's torchrun at the end that there is no more to do."""
    yield
    if under_torchrun():
        _broadcast(None)
        torch.distributed.destroy_process_group()


def _broadcast(folder: str | None) -> None:
    torch.distributed.broadcast_object_list([folder], src=0, group=_control())


def _receive() -> str | None:
    message: list[Any] = [None]
    torch.distributed.broadcast_object_list(message, src=0, group=_control())
    folder: str | None = message[0]
    return folder


_group: Any = None


def _control() -> Any:
    """A group of all processes whose timeout covers preparing photographs and scoring a stage."""
    global _group
    if _group is None:
        if not torch.distributed.is_initialized():
            # Lightning uses an existing group.
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        _group = torch.distributed.new_group(backend="gloo", timeout=FOREVER)
    return _group


def _reason(error: Any) -> Exception:
    """The failure that came first; the other ranks fail because that one has ended."""
    rank, failure = error.get_first_failure()
    killed = [
        (rank, each) for rank, each in error.failures.items() if each.exitcode < 0 and each.exitcode != -signal.SIGTERM
    ]
    if killed:
        rank, failure = killed[0]
        return RankError(f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}")
    said = failure.message
    message = str(said.get("message") if isinstance(said, dict) else said)
    kind, _, text = message.partition(": ")
    if kind == UserError.__name__:
        return UserError(text)
    return RankError(f"rank {rank} failed: {message}")


@contextmanager
def _outside_of_any_group(count: int) -> Iterator[None]:
    """Remove an earlier group's variables from the environment, and divide the cores among the processes."""
    before = dict(os.environ)
    for name in PLACE_IN_GROUP:
        os.environ.pop(name, None)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore signal handlers: the agent installs its own and leaves them."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        try:
            for number, handler in before.items():
                signal.signal(number, handler)
        except ValueError:
            pass  # not the main thread: the agent could not change them either
