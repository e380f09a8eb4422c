"""Grades, contradictions and losses, against hand-worked rows and coral-pytorch."""

from __future__ import annotations

import sys

import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits, levels_from_labelbatch, proba_to_label
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fundusnet.errors import UserError
from fundusnet.grading.ranking import (
    HEADS,
    Head,
    binary_weights,
    class_probabilities,
    grade_from_probabilities,
    grade_of,
    grading_losses,
    inverse_frequency,
    ordinal_targets,
    predicted_grade,
    probabilities,
    rank_violations,
    ranking_loss,
)

rows = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=1))


def test_grade_is_how_many_say_yes() -> None:
    p = torch.tensor([[0.1, 0.2], [0.9, 0.2], [0.9, 0.8], [0.2, 0.9], [0.5, 0.5]])
    assert grade_from_probabilities(p).tolist() == [0, 1, 2, 1, 0]
    assert rank_violations(p).tolist() == [False, False, False, True, False]


def test_a_violation_is_a_no_before_a_yes_wherever_they_stand() -> None:
    p = torch.tensor([[0.9, 0.1, 0.1, 0.9], [0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.9, 0.9]])
    assert rank_violations(p).tolist() == [True, False, True]
    assert rank_violations(p[:, :1]).tolist() == [False] * 3  # a single sub-classifier cannot contradict itself


@given(rows)
def test_grades_of_any_row(values: list[list[float]]) -> None:
    p = torch.tensor(values, dtype=torch.float64)
    assert grade_from_probabilities(p).tolist() == [sum(x > 0.5 for x in row) for row in values]
    answers = [[x > 0.5 for x in row] for row in values]
    assert rank_violations(p).tolist() == [answer != sorted(answer, reverse=True) for answer in answers]


def test_the_most_probable_grade_need_not_be_the_one_in_the_middle() -> None:
    """Classes of the rows: 0.4, 0.15, 0.45; 0.45, 0.3, 0.25; 0.2, 0.7, 0.1; contradicting: 0.7, 0, 0.6, scaled."""
    p = torch.tensor([[0.6, 0.45], [0.55, 0.25], [0.8, 0.1], [0.3, 0.6]])
    assert grade_of("count", p).tolist() == [1, 1, 1, 1]
    assert grade_of("most_probable", p).tolist() == [2, 0, 1, 0]


@given(rows)
def test_where_one_grade_has_half_of_the_probability_both_rules_choose_it(values: list[list[float]]) -> None:
    p = torch.tensor([sorted(row, reverse=True) for row in values], dtype=torch.float64)
    share, most = class_probabilities(p).max(dim=1)
    assert torch.equal(grade_of("most_probable", p), most)
    assert torch.equal(grade_of("count", p)[share > 0.501], most[share > 0.501])


def test_each_head_has_its_usual_rule_and_takes_the_other() -> None:
    logits = torch.tensor([[0.4, 0.25, 0.35]]).log()
    grades = [predicted_grade("multiclass", logits, rule).item() for rule in (None, "most_probable", "count")]
    assert grades == [0, 0, 1]
    for head, logits in {
        "ranking": torch.stack([torch.zeros(1, 2), torch.tensor([[0.6, 0.45]]).logit()], dim=-1),
        "coral": torch.tensor([[0.6, 0.45]]).logit(),
        "corn": torch.tensor([[0.6, 0.75]]).logit(),
    }.items():
        grades = [predicted_grade(head, logits, rule).item() for rule in (None, "count", "most_probable")]  # type: ignore[arg-type]
        assert grades == [1, 1, 2], head


def test_targets() -> None:
    assert ordinal_targets(torch.arange(4), 4).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    grade = torch.randint(0, 6, (20,))
    torch.testing.assert_close(ordinal_targets(grade, 6).float(), levels_from_labelbatch(grade, 6))


@given(rows)
def test_class_probabilities_of_any_row(values: list[list[float]]) -> None:
    p = torch.tensor(values, dtype=torch.float64)
    each = class_probabilities(p)
    assert each.shape == (len(p), p.shape[1] + 1)
    assert (each >= 0).all()
    torch.testing.assert_close(each.sum(dim=1), torch.ones(len(p), dtype=torch.float64))
    # Grades counted from the other end: "grade > k" becomes "not (grade > K-2-k)".
    torch.testing.assert_close(class_probabilities(1 - p.flip(1)), each.flip(1), atol=1e-9, rtol=0)


def test_class_probabilities_without_and_with_a_contradiction() -> None:
    consistent = class_probabilities(torch.tensor([[0.8, 0.3]]))
    torch.testing.assert_close(consistent, torch.tensor([[0.2, 0.5, 0.3]]))
    contradicting = class_probabilities(torch.tensor([[0.2, 0.7]]))  # differences 0.8, -0.5, 0.7
    torch.testing.assert_close(contradicting, torch.tensor([[0.8 / 1.5, 0.0, 0.7 / 1.5]]))


def test_a_softmax_is_found_again_in_its_tails() -> None:
    logits = torch.randn(10, 5)
    p = probabilities("multiclass", logits)
    softmax = logits.softmax(dim=1)
    torch.testing.assert_close(p[:, 1], softmax[:, 2:].sum(dim=1))
    torch.testing.assert_close(class_probabilities(p), softmax)
    assert not rank_violations(p).any()
    # The most probable class, which may differ from the median of the tails.
    split = torch.tensor([[0.4, 0.25, 0.35]]).log()
    assert predicted_grade("multiclass", split).item() == 0
    assert grade_from_probabilities(probabilities("multiclass", split)).item() == 1


def test_ranking_probabilities_are_the_second_of_two() -> None:
    logits = torch.randn(6, 3, 2)
    by_hand = 1 / (1 + torch.exp(logits[..., 0] - logits[..., 1]))
    torch.testing.assert_close(probabilities("ranking", logits), by_hand)


def test_coral_and_corn_grade_as_their_library_does() -> None:
    logits = torch.randn(200, 4)
    torch.testing.assert_close(predicted_grade("coral", logits), proba_to_label(logits.sigmoid()))
    torch.testing.assert_close(predicted_grade("corn", logits), corn_label_from_logits(logits))
    assert not rank_violations(probabilities("corn", logits)).any()


def test_ranking_loss_is_kept_apart() -> None:
    logits, grade = torch.randn(7, 3, 2), torch.tensor([0, 1, 2, 3, 3, 0, 1])
    losses = ranking_loss(logits, grade)
    for k in range(3):
        by_hand = functional.cross_entropy(logits[:, k], (grade > k).long())
        torch.testing.assert_close(losses[k], by_hand)


def test_a_sub_classifier_is_taught_by_its_own_loss_alone() -> None:
    logits = torch.randn(7, 3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(ranking_loss(logits, torch.randint(0, 4, (7,)))[1], logits)
    assert gradient[:, 1].abs().sum() > 0
    assert gradient[:, [0, 2]].abs().sum() == 0


def test_inverse_frequency() -> None:
    torch.testing.assert_close(inverse_frequency(torch.tensor([75, 25])), torch.tensor([100 / 150, 100 / 50]))
    # Grades 60, 30, 10: "grade > 0" splits 60 | 40, "grade > 1" splits 90 | 10.
    expected = torch.tensor([[100 / 120, 100 / 80], [100 / 180, 100 / 20]])
    torch.testing.assert_close(binary_weights([60, 30, 10]), expected)


def test_balance_gives_both_answers_the_same_say() -> None:
    grade = torch.tensor([0] * 6 + [1] * 3 + [2] * 1)
    logits = torch.randn(10, 2, 2)
    losses = grading_losses("ranking", logits, grade, [6, 3, 1])
    for k in range(2):
        cost = functional.cross_entropy(logits[:, k], (grade > k).long(), reduction="none")
        by_hand = (cost[grade > k].mean() + cost[grade <= k].mean()) / 2
        torch.testing.assert_close(losses[k], by_hand)
    for head in ("multiclass", "coral"):
        logits = torch.randn(10, 3 if head == "multiclass" else 2)
        each = torch.stack([grading_losses(head, logits[grade == k], grade[grade == k])[0] for k in range(3)])
        torch.testing.assert_close(grading_losses(head, logits, grade, [6, 3, 1])[0], each.mean())


def test_balance_is_not_silently_dropped() -> None:
    with pytest.raises(UserError, match=r"balance=inverse .* corn"):
        grading_losses("corn", torch.randn(3, 2), torch.tensor([0, 1, 2]), [1, 1, 1])


@pytest.mark.parametrize("head", HEADS)
def test_with_two_grades_all_heads_are_one(head: Head) -> None:
    z, grade = torch.randn(9), torch.randint(0, 2, (9,))
    logits: Tensor = z[:, None]
    if head == "ranking":
        logits = torch.stack([torch.zeros(9), z], dim=1)[:, None]
    elif head == "multiclass":
        logits = torch.stack([torch.zeros(9), z], dim=1)
    torch.testing.assert_close(probabilities(head, logits), z.sigmoid()[:, None])
    torch.testing.assert_close(predicted_grade(head, logits), (z > 0).long())
    expected = functional.binary_cross_entropy_with_logits(z, grade.float())[None]
    torch.testing.assert_close(grading_losses(head, logits, grade), expected)


@pytest.mark.parametrize("head", ["coral", "corn"])
def test_without_coral_pytorch(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coral_pytorch", None)
    with pytest.raises(UserError, match=r"fundusnet\[ordinal\]"):
        grading_losses(head, torch.randn(3, 2), torch.tensor([0, 1, 2]))
