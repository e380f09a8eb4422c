"""Writes a trained network as ONNX, from uint8 pixels to probabilities and maps."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fundusnet.errors import UserError
from fundusnet.prediction.trained_network import TrainedNetwork
from fundusnet.system.files import replacing
from fundusnet.system.log_level import log_level

TOLERANCE = 1e-4  # largest difference to torch in any output
INPUT = "image"


class ExportedFindings(nn.Module):
    """``image`` uint8 ``(B, S, S, 3)`` → ``probability`` ``(B, F)``, ``map`` ``(B, F, h, w)``."""

    outputs = ("probability", "map")

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        activation, probability = self.module(image.permute(0, 3, 1, 2))
        return probability, activation


class ExportedStage(nn.Module):
    """``image`` uint8 ``(B, S, S, 3)`` → ``p`` ``(B, K-1)``, probabilities of "grade > k", ``grade`` ``(B,)``."""

    outputs: tuple[str, ...] = ("p", "grade")

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer = self.module(image.permute(0, 3, 1, 2))
        return answer.p, answer.grade


class ExportedTwoStages(ExportedStage):
    """As :class:`ExportedStage`, with ``stage1_grade`` ``(B,)`` and ``mask`` ``(B, 1, S, S)`` in [0, 1]."""

    outputs = ("p", "grade", "stage1_grade", "mask")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer = self.module(image.permute(0, 3, 1, 2))
        return answer.p, answer.grade, answer.first.grade, answer.mask


def exportable_module(network: TrainedNetwork) -> nn.Module:
    """The module to export: preprocessing from uint8, the network, and its outputs as a tuple."""
    from fundusnet.grading.two_stage import TwoStage

    if network.task == "findings":
        return ExportedFindings(network.module).eval()
    return (ExportedTwoStages if isinstance(network.module, TwoStage) else ExportedStage)(network.module).eval()


def write_onnx(network: TrainedNetwork, file: Path, pictures: NDArray[np.uint8]) -> float:
    """Write ``network`` as ONNX for batches of any size, if onnxruntime agrees with torch.

    The file's metadata hold ``names``, ``size``, ``thresholds`` and ``temperatures`` as JSON under ``fundusnet``.

    Args:
        network: What to write.
        file: Where to write.
        pictures: uint8 ``(N, S, S, 3)`` to compare on, N at least 2.

    Returns:
        The largest difference between onnxruntime and torch in any output.

    Raises:
        UserError: onnx is not installed, or the two differ by more than 1e-4; ``file`` is then not written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch writes through it
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; pip install "fundusnet[export]"') from error
    graph = exportable_module(network)
    outputs: Any = graph.outputs
    example = torch.from_numpy(np.ascontiguousarray(pictures[:2]))
    with warnings.catch_warnings(), log_level(logging.ERROR, "torch.onnx"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    metadata = {"task": network.task, "names": list(network.names), "size": network.spec.size,
                "thresholds": network.thresholds, "temperatures": network.temperatures}  # fmt: skip
    onnx.helper.set_model_props(model, {"fundusnet": json.dumps(metadata)})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = graph(torch.from_numpy(np.ascontiguousarray(pictures)))
    found = session.run(list(outputs), {INPUT: pictures})
    worst = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True))
    if not worst <= TOLERANCE:
        raise UserError(
            f"ONNX differs from torch by {worst:.1e} on these pictures, more than {TOLERANCE:.0e}; nothing is "
            "written; use the checkpoint itself, or formats=[safetensors]"
        )
    with replacing(file) as partial:
        onnx.save(model, str(partial))
    return worst
