"""Who reads which image, and in which order: balanced, random, and settled once somebody has answered."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence


def deal(
    images: Sequence[str],
    readers: Sequence[str],
    readings_per_image: int,
    assigned: Mapping[str, Collection[str]],
    answered: Mapping[str, Collection[str]],
    seed: int,
) -> dict[str, set[str]]:
    """The readers of every image: ``readings_per_image`` of them, or all where there are fewer (S1.2).

    Readers end with equal shares, one image more or less, as far as the answers given so far allow. What was dealt
    before stays where it can: new images and new readers move as little as evens the shares out.

    Args:
        readers: those who take part now.
        assigned, answered: for each image who was to read it, and who of them has begun; the latter keep it, also when
            they take no part any more.
    """
    hands: dict[str, set[str]] = {}
    for image in images:
        begun = set(answered.get(image, ()))
        hands[image] = begun | (set(assigned.get(image, ())) & set(readers))
    load = dict.fromkeys(readers, 0)
    for hand in hands.values():
        for reader in hand & load.keys():
            load[reader] += 1

    order = sorted(images, key=lambda image: _mark(seed, image))
    for image in order:
        hand = hands[image]
        movable = hand - set(answered.get(image, ()))
        while len(hand) > readings_per_image and movable:
            heaviest = max(movable, key=lambda reader: (load[reader], _mark(seed, image, reader)))
            movable.remove(heaviest)
            hand.remove(heaviest)
            load[heaviest] -= 1
        free = set(readers) - hand
        while len(hand) < readings_per_image and free:
            lightest = min(free, key=lambda reader: (load[reader], _mark(seed, image, reader)))
            free.remove(lightest)
            hand.add(lightest)
            load[lightest] += 1
    _even_out(order, hands, load, answered)
    return hands


def reading_order(images: Collection[str], annotator: str, seed: int) -> list[str]:
    """``images`` in this annotator's own random order; an image added later changes nothing among the others."""
    return sorted(images, key=lambda image: _mark(seed, image, annotator))


def shuffled(names: Collection[str], image: str, seed: int) -> list[str]:
    """``names`` in an order that differs from image to image, so that it does not tell who is who."""
    return sorted(names, key=lambda name: _mark(seed, "panel", image, name))


def _even_out(
    order: Sequence[str], hands: dict[str, set[str]], load: dict[str, int], answered: Mapping[str, Collection[str]]
) -> None:
    """Move images nobody has begun from those with many to those with few, until no move helps."""
    moved = True
    while moved:
        moved = False
        by_load = sorted(load, key=lambda reader: (load[reader], reader))
        pairs = [(heavy, light) for heavy in reversed(by_load) for light in by_load]
        for heavy, light in pairs:
            if load[heavy] - load[light] < 2:
                continue
            for image in order:
                if load[heavy] - load[light] < 2:
                    break
                if heavy in hands[image] and light not in hands[image] and heavy not in answered.get(image, ()):
                    hands[image] = (hands[image] - {heavy}) | {light}
                    load[heavy] -= 1
                    load[light] += 1
                    moved = True


def _mark(seed: int, *parts: str) -> bytes:
    """A number as good as random that depends on its arguments alone."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
