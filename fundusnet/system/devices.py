"""Which device computes: one rule for training, scoring and prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fundusnet.errors import UserError


def uses_gpu(accelerator: str) -> bool:
    """Whether ``trainer.accelerator`` means a GPU on this machine.

    Args:
        accelerator: "auto" (a GPU if there is one), "cpu", "gpu" or "cuda".

    Raises:
        UserError: A GPU is asked for and torch finds none.
    """
    available = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not available:
        raise UserError(f"trainer.accelerator={accelerator}: torch finds no GPU here; use auto or cpu")
    return accelerator != "cpu" and available


def choose_device(accelerator: str = "auto", devices: int | str | Sequence[int] = 1) -> torch.device:
    """The one device for work that is not shared out, such as scoring, by the keys of ``conf/trainer``.

    Args:
        accelerator: "auto" (a GPU if there is one), "cpu", "gpu" or "cuda".
        devices: How many devices training uses, "auto" for all, or a list of GPU numbers, whose first one is taken.

    Raises:
        UserError: A GPU is asked for and torch finds none, or none of that number.

    Examples:
        >>> choose_device("cpu", devices=2)
        device(type='cpu')
    """
    if not uses_gpu(accelerator):
        return torch.device("cpu")
    if isinstance(devices, (int, str)) or not devices:
        return torch.device("cuda", 0)
    index, count = int(devices[0]), torch.cuda.device_count()
    if not 0 <= index < count:
        numbers = f"GPUs 0 to {count - 1}" if count > 1 else "GPU 0 only"
        raise UserError(f"trainer.devices={list(devices)}: torch finds {numbers} here; choose among these")
    return torch.device("cuda", index)


def all_devices() -> list[torch.device]:
    """All GPUs of this machine, or the CPU if there is none."""
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())] or [torch.device("cpu")]


def named_device(name: str) -> torch.device:
    """The device that predict's ``device=`` names.

    Args:
        name: "auto" (the first GPU if there is one), "cpu", "cuda", "cuda:1", or another name that torch knows.

    Raises:
        UserError: There is no such device here.

    Examples:
        >>> named_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return choose_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used: {str(error).splitlines()[0]}; use auto or cpu") from error
    return device
