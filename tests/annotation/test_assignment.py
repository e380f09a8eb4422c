"""Shares are equal, answers stay with their readers, and later additions move as little as possible."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fundusnet.annotation.assignment import choose_readers, reading_order, shuffled

IMAGES = [f"image{number}" for number in range(40)]
READERS = ["anna", "ben", "cleo", "dora", "emil"]


def loads(chosen: dict[str, set[str]]) -> Counter[str]:
    return Counter(reader for hand in chosen.values() for reader in hand)


@given(st.integers(0, 40), st.integers(0, 5), st.integers(1, 4), st.integers(0, 1000))
def test_every_image_gets_its_readers_in_even_shares(images: int, readers: int, each: int, seed: int) -> None:
    chosen = choose_readers(IMAGES[:images], READERS[:readers], each, {}, {}, seed)
    assert all(len(hand) == min(each, readers) for hand in chosen.values())
    shares = [loads(chosen)[reader] for reader in READERS[:readers]]
    assert not shares or max(shares) - min(shares) <= 1


def test_the_readers_of_an_image_vary() -> None:
    chosen = choose_readers(IMAGES, READERS, 3, {}, {}, seed=1)
    assert len({frozenset(hand) for hand in chosen.values()}) >= 8  # of 10 possible trios


def test_new_images_change_nothing_for_the_old_ones() -> None:
    first = choose_readers(IMAGES[:30], READERS, 3, {}, {}, seed=0)
    later = choose_readers(IMAGES, READERS, 3, first, {}, seed=0)
    assert {image: later[image] for image in first} == first
    shares = loads(later).values()
    assert max(shares) - min(shares) <= 1


def test_a_new_reader_takes_over_images_that_nobody_has_started() -> None:
    before = choose_readers(IMAGES, READERS[:3], 3, {}, {}, seed=0)
    begun = {image: {"anna"} for image in IMAGES[:10]}
    after = choose_readers(IMAGES, READERS[:4], 3, before, begun, seed=0)
    assert all(len(hand) == 3 for hand in after.values())
    assert all("anna" in after[image] for image in IMAGES[:10])
    assert set(loads(after).values()) == {30}


def test_a_reader_who_leaves_keeps_answered_images_only() -> None:
    before = choose_readers(IMAGES, READERS[:4], 3, {}, {}, seed=0)
    begun = {image: {"anna"} for image in IMAGES if "anna" in before[image]}
    kept = dict(list(begun.items())[:5])
    after = choose_readers(IMAGES, ["ben", "cleo", "dora"], 3, before, kept, seed=0)
    assert {image for image, hand in after.items() if "anna" in hand} == set(kept)
    assert all(len(hand) == 3 for hand in after.values())


@settings(max_examples=60)
@given(st.data())
def test_answers_never_move_and_no_image_is_read_too_often(data: st.DataObject) -> None:
    chosen: dict[str, set[str]] = {}
    answered: dict[str, set[str]] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        readers = data.draw(st.lists(st.sampled_from(READERS), unique=True))
        images = IMAGES[: data.draw(st.integers(0, 15))]
        each = data.draw(st.integers(1, 3))
        chosen = choose_readers(images, readers, each, chosen, answered, seed=3)
        for image, hand in chosen.items():
            assert answered.get(image, set()) <= hand
            assert len(hand) <= max(each, len(answered.get(image, ())))
            assert hand - answered.get(image, set()) <= set(readers)
            assert len(hand) >= min(each, len(readers))
            if hand and data.draw(st.booleans()):
                answered.setdefault(image, set()).add(data.draw(st.sampled_from(sorted(hand))))


def test_orders_are_random_and_each_annotators_own() -> None:
    orders = {name: reading_order(IMAGES, name, seed=0) for name in READERS}
    assert len({tuple(order) for order in orders.values()}) == len(READERS)
    assert orders["anna"] != IMAGES
    assert orders["anna"] != reading_order(IMAGES, "anna", seed=1)
    assert sorted(orders["anna"]) == sorted(IMAGES)


def test_an_image_added_later_keeps_the_order_of_the_others() -> None:
    before = reading_order(IMAGES[:-1], "anna", seed=0)
    assert [image for image in reading_order(IMAGES, "anna", seed=0) if image != IMAGES[-1]] == before


def test_letters_do_not_reveal_who_is_who() -> None:
    first = Counter(shuffled(READERS, image, seed=0)[0] for image in IMAGES * 1)
    assert len(first) == len(READERS)
    assert shuffled(READERS, "image0", 0) == shuffled(READERS[::-1], "image0", 0)
