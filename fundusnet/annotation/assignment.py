"""Which annotator reads which image, and in which order: balanced, random, and fixed once an answer exists."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence


def choose_readers(
    images: Sequence[str],
    readers: Sequence[str],
    readings_per_image: int,
    assigned: Mapping[str, Collection[str]],
    answered: Mapping[str, Collection[str]],
    seed: int,
    further: Mapping[str, int] | None = None,
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
        further: Image → readers that it needs besides.

    Returns:
        Image → its readers.
    """
    more = further or {}
    chosen: dict[str, set[str]] = {}
    for image in images:
        begun = set(answered.get(image, ()))
        chosen[image] = begun | (set(assigned.get(image, ())) & set(readers))
    load = dict.fromkeys(readers, 0)
    for current in chosen.values():
        for reader in current & load.keys():
            load[reader] += 1

    order = sorted(images, key=lambda image: random_key(seed, image))
    chance = random.Random(seed)
    for image in order:
        current = chosen[image]
        wanted = readings_per_image + more.get(image, 0)
        movable = sorted(current - set(answered.get(image, ())))
        while len(current) > wanted and movable:
            heaviest = max(movable, key=lambda reader: (load.get(reader, 0), chance.random()))
            movable.remove(heaviest)
            current.remove(heaviest)
            load[heaviest] -= 1
        if len(current) < wanted:
            # Of the readers with equal loads, a random one.
            lightest = sorted((load[reader], chance.random(), reader) for reader in readers if reader not in current)
            for _, _, reader in lightest[: wanted - len(current)]:
                current.add(reader)
                load[reader] += 1
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
    """Move images that have no answer from readers with many images to readers with few, until shares are equal.

    The images of a reader that cannot go to another now cannot later either, unless that one gives some away; so each
    pair of readers looks through the images of the first at most once a round.
    """
    if not load or max(load.values()) - min(load.values()) < 2:
        return
    movable: dict[str, list[str]] = {reader: [] for reader in load}
    for image in order:
        for reader in chosen[image] & load.keys() - set(answered.get(image, ())):
            movable[reader].append(image)
    mean = sum(load.values()) // len(load)
    for least in (mean, 0):  # first only what is above the mean, so that no image moves twice without need
        moved = True
        while moved:
            moved = False
            for light in sorted(load, key=lambda reader: (load[reader], reader)):
                for heavy in sorted(load, key=lambda reader: (-load[reader], reader)):
                    if load[heavy] - load[light] < 2:
                        break
                    moved |= _move(heavy, light, least, movable, chosen, load)


def _move(
    heavy: str,
    light: str,
    least: int,
    movable: dict[str, list[str]],
    chosen: dict[str, set[str]],
    load: dict[str, int],
) -> bool:
    """Move images from ``heavy`` to ``light`` until they are level, or heavy has ``least``; whether any was moved."""
    kept: list[str] = []
    moved = False
    for place, image in enumerate(movable[heavy]):
        if load[heavy] <= least or load[heavy] - load[light] < 2:
            kept += movable[heavy][place:]
            break
        if light in chosen[image]:
            kept.append(image)
            continue
        chosen[image] = (chosen[image] - {heavy}) | {light}
        movable[light].append(image)
        load[heavy] -= 1
        load[light] += 1
        moved = True
    movable[heavy] = kept
    return moved


def random_key(seed: int, *parts: str) -> bytes:
    """A pseudorandom sort key that depends on the arguments only."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
