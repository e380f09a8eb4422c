"""Gathering the results of several processes on their shares of a split."""

from __future__ import annotations

import torch
from torch import Tensor


def gathered(rows: Tensor) -> Tensor:
    """``(N, …)`` of this process → the rows of all processes, of which each may have another number."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    shares: list[Tensor | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, rows.cpu())
    return torch.cat([share for share in shares if share is not None]).to(rows.device)
