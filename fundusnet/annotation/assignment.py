"""Which annotator reads which image, and in which order: balanced, random, and fixed once an answer exists."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence


def choose_readers(
    images: Sequence[str],
    readers: Sequence[str],
    readings_per_image: int,
    assigned: Mapping[str, Collection[str]],
    answered: Mapping[str, Collection[str]],
    seed: int,
) -> dict[str, set[str]]:
    """Choose ``readings_per_image`` readers for every image, or all of them if there are fewer (S1.2).

    Shares differ by one image at most, as far as existing answers allow. Earlier assignments are kept where possible:
    new images and new readers move no more of them than balance requires.

    Args:
        images: Ids of all images.
        readers: Those who take part now.
        readings_per_image: Readers of each image.
        assigned: Image → readers it was assigned to before.
        answered: Image → readers who have started on it; they keep it, even if they no longer take part.
        seed: Of the random choice.

    Returns:
        Image → its readers.
    """
    chosen: dict[str, set[str]] = {}
    for image in images:
        begun = set(answered.get(image, ()))
        chosen[image] = begun | (set(assigned.get(image, ())) & set(readers))
    load = dict.fromkeys(readers, 0)
    for current in chosen.values():
        for reader in current & load.keys():
            load[reader] += 1

    order = sorted(images, key=lambda image: random_key(seed, image))
    for image in order:
        current = chosen[image]
        movable = current - set(answered.get(image, ()))
        while len(current) > readings_per_image and movable:
            heaviest = max(movable, key=lambda reader: (load[reader], random_key(seed, image, reader)))
            movable.remove(heaviest)
            current.remove(heaviest)
            load[heaviest] -= 1
        free = set(readers) - current
        while len(current) < readings_per_image and free:
            lightest = min(free, key=lambda reader: (load[reader], random_key(seed, image, reader)))
            free.remove(lightest)
            current.add(lightest)
            load[lightest] += 1
    _balance(order, chosen, load, answered)
    return chosen


def reading_order(images: Collection[str], annotator: str, seed: int) -> list[str]:
    """``images`` in this annotator's own random order; adding an image keeps the order of the others."""
    return sorted(images, key=lambda image: random_key(seed, image, annotator))


def shuffled(names: Collection[str], image: str, seed: int) -> list[str]:
    """``names`` in an order that differs between images, so that it does not reveal who is who."""
    return sorted(names, key=lambda name: random_key(seed, "panel", image, name))


def _balance(
    order: Sequence[str], chosen: dict[str, set[str]], load: dict[str, int], answered: Mapping[str, Collection[str]]
) -> None:
    """Move images that have no answer from readers with many images to readers with few, until shares are equal."""
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
                if heavy in chosen[image] and light not in chosen[image] and heavy not in answered.get(image, ()):
                    chosen[image] = (chosen[image] - {heavy}) | {light}
                    load[heavy] -= 1
                    load[light] += 1
                    moved = True


def random_key(seed: int, *parts: str) -> bytes:
    """A pseudorandom sort key that depends on the arguments only."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
