"""Batch norms folded into the convolutions before them: the same numbers, in fewer passes over memory."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm that follows a convolution into it, in place.

    In the order of a module's children, which has to be that of computation, as in EfficientNets. An activation that is
    part of a norm, as in timm's ``BatchNormAct2d``, stays where it is.

    Args:
        module: In evaluation mode; it cannot be trained any more.
    """
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fuse_batch_norms(child)
        before = name, child
