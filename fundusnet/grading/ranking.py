"""From logits to ordered grades, and the loss of each kind of head (S2.1, S2.7).

``K`` grades are ordered, ``p[:, k]`` is the probability of "grade > k". The heads differ in their logits:

========== ================= =====================================================================
head       logits            p[:, k]
========== ================= =====================================================================
ranking    ``(B, K-1, 2)``   2-way softmax of sub-classifier k, which has its own backbone (the paper)
multiclass ``(B, K)``        sum of the K-way softmax above k
coral      ``(B, K-1)``      sigmoid; one weight vector, K-1 biases (Cao et al. 2020)
corn       ``(B, K-1)``      product of the sigmoids up to k (Shi et al. 2021)
========== ================= =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from fundusnet.errors import UserError

Head = Literal["ranking", "multiclass", "coral", "corn"]
HEADS: tuple[Head, ...] = ("ranking", "multiclass", "coral", "corn")
Decision = Literal["count", "most_probable"]
DECISIONS: tuple[Decision, ...] = ("count", "most_probable")


def grade_from_probabilities(p: Float[Tensor, "B k"]) -> Int[Tensor, " B"]:
    """``(B, K-1)`` probabilities of "grade > k" → ``(B,)`` grades: how many probabilities exceed 0.5 (S2.1)."""
    return (p > 0.5).sum(dim=1)


def rank_violations(p: Float[Tensor, "B k"]) -> Bool[Tensor, " B"]:
    """``(B, K-1)`` → ``(B,)`` bool: a sub-classifier says no and the next one yes (S2.1)."""
    yes = p > 0.5
    return (~yes[:, :-1] & yes[:, 1:]).any(dim=1)


def ordinal_targets(grade: Int[Tensor, " B"], classes: int) -> Int[Tensor, "B {classes}-1"]:
    """``(B,)`` grades in 0 … K-1 → ``(B, K-1)`` long, 1 where grade > k."""
    return (grade[:, None] > torch.arange(classes - 1, device=grade.device)).long()


def class_probabilities(p: Float[Tensor, "B k"]) -> Float[Tensor, "B k+1"]:
    """Probability of each grade, for ROC curves and their areas (S2.6): ``(B, K-1)`` → ``(B, K)``, rows sum to 1.

    Our reading: P(k) = P(> k-1) - P(> k). Independent sub-classifiers may contradict each other; then a negative
    difference counts as 0 and the row is scaled to sum to 1. Reversing the order of the grades reverses the result.
    """
    padded = functional.pad(functional.pad(p, (1, 0), value=1.0), (0, 1), value=0.0)
    difference = (padded[:, :-1] - padded[:, 1:]).clamp_min(0)
    return difference / difference.sum(dim=1, keepdim=True)


def probabilities(head: Head, logits: Float[Tensor, "B ..."]) -> Float[Tensor, "B k"]:
    """Logits of ``head`` (shapes above) → ``(B, K-1)`` float32 probabilities of "grade > k"."""
    logits = logits.float()
    if head == "ranking":
        return logits.softmax(dim=-1)[..., 1]
    if head == "multiclass":
        above = logits.softmax(dim=-1).flip(1).cumsum(dim=1).flip(1)
        return above[:, 1:]
    return logits.sigmoid() if head == "coral" else logits.sigmoid().cumprod(dim=1)


def usual_decision(head: Head) -> Decision:
    """How each head decides unless told otherwise: a softmax by the most probable grade, the others by counting."""
    return "most_probable" if head == "multiclass" else "count"


def predicted_grade(head: Head, logits: Float[Tensor, "B ..."], decision: Decision | None = None) -> Int[Tensor, " B"]:
    """``(B,)`` grades by a rule of ``grade_of``; None = that of the head."""
    decision = decision or usual_decision(head)
    if head == "multiclass" and decision == "most_probable":
        return logits.argmax(dim=1)
    return grade_of(decision, probabilities(head, logits))


def grade_of(decision: Decision, p: Float[Tensor, "B k"]) -> Int[Tensor, " B"]:
    """The grade that probabilities ``(B, K-1)`` of "grade > k" lead to.

    ``count`` is ``grade_from_probabilities``, the paper's: the median of the distribution over the grades, which is off
    by the fewest grades on average. ``most_probable`` is its mode, which is right most often (S2.1 knows the first
    only). They differ where no grade has half of the probability.
    """
    return class_probabilities(p).argmax(dim=1) if decision == "most_probable" else grade_from_probabilities(p)


class GradingLoss(nn.Module):
    """The loss of a stage (S2.1, S2.4).

    Args:
        balance: ``inverse`` weighs the grades by their inverse frequency in the training images.
    """

    def __init__(self, balance: Literal["none", "inverse"] = "none") -> None:
        super().__init__()
        self.balance = balance
        self.counts: list[int] | None = None

    def fit_to(self, counts: list[int]) -> None:
        """Take the weights from the number of training images of each grade."""
        self.counts = counts if self.balance == "inverse" else None

    def forward(self, head: Head, logits: Float[Tensor, "B ..."], grade: Int[Tensor, " B"]) -> Float[Tensor, " M"]:
        """A loss for each member of the network, as ``grading_losses`` gives them."""
        return grading_losses(head, logits, grade, self.counts)


def grading_losses(
    head: Head, logits: Float[Tensor, "B ..."], grade: Int[Tensor, " B"], counts: Sequence[int] | None = None
) -> Float[Tensor, " M"]:
    """A loss for each part of the network whose best epoch is chosen on its own: ``(K-1,)`` for ranking, else ``(1,)``.

    Args:
        head: Kind of the logits.
        logits: Of shape as above.
        grade: ``(B,)`` long in 0 … K-1.
        counts: Number of training images of each grade, ``K`` of them, to weigh grades by inverse frequency
            (``balance: inverse``); None = unweighted.

    Raises:
        UserError: Weights for CORN, whose loss takes none, or coral-pytorch is not installed.
    """
    logits = logits.float()
    if head == "ranking":
        return ranking_loss(logits, grade, binary_weights(counts).to(logits.device) if counts else None)
    weight = inverse_frequency(torch.tensor(counts)).to(logits.device)[grade] if counts else None
    if head == "multiclass":
        cost = functional.cross_entropy(logits, grade, reduction="none")
    elif head == "coral":
        targets = ordinal_targets(grade, logits.shape[1] + 1).float()
        cost = _coral_pytorch().coral_loss(logits, targets, reduction=None)
    elif weight is not None:
        raise UserError("balance=inverse does not work with the corn head; use balance=none or another head")
    else:
        return torch.stack([_coral_pytorch().corn_loss(logits, grade, logits.shape[1] + 1)])
    return (cost if weight is None else cost * weight).mean()[None]


def ranking_loss(
    logits: Float[Tensor, "B k 2"], grade: Int[Tensor, " B"], weight: Float[Tensor, "k 2"] | None = None
) -> Float[Tensor, " k"]:
    """2-way softmax cross-entropy of each sub-classifier (S2.1).

    Args:
        logits: ``(B, K-1, 2)``, no and yes.
        grade: ``(B,)`` long.
        weight: ``(K-1, 2)`` weights of no and yes for each sub-classifier, or None.

    Returns:
        ``(K-1,)``: the mean over the batch. It is not divided by the sum of weights: in a batch of one class they would
        cancel out.
    """
    targets = ordinal_targets(grade, logits.shape[1] + 1)
    cost = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    if weight is not None:
        cost = cost * weight[torch.arange(len(weight), device=weight.device), targets]
    return cost.mean(dim=0)


def binary_weights(counts: Sequence[int]) -> Tensor:
    """Number of images of each grade ``(K,)`` → ``(K-1, 2)`` weights of no and yes for each sub-classifier."""
    count = torch.tensor(counts)
    no = count.cumsum(0)[:-1]
    return inverse_frequency(torch.stack([no, count.sum() - no], dim=1))


def inverse_frequency(counts: Tensor) -> Tensor:
    """``(..., C)`` counts → weights with the same total for each class and a mean of 1 over the images."""
    return counts.sum(dim=-1, keepdim=True) / (counts.shape[-1] * counts.clamp_min(1))


def _coral_pytorch() -> Any:
    try:
        from coral_pytorch import losses
    except ImportError:
        raise UserError(
            "the heads coral and corn need coral-pytorch; install it with: pip install 'fundusnet[ordinal]'"
        ) from None
    return losses
