"""Soft crashes over the simulated Coinbase, with our adapter and the real SDK: the same stories, the venue's own faults.

`KEEL_COINBASE_RUNS` says how many; a part of the whole is spread evenly over it.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.crash import grid
from tests.crash.coinbase import REPLIES, CoinbasePlace, places
from tests.crash.story import Story, tell

pytestmark = [pytest.mark.crash, pytest.mark.timeout(20000)]
RUNS = int(os.environ.get("KEEL_COINBASE_RUNS", "40"))
SEED = int(os.environ.get("KEEL_CRASH_SEED", "1"))
POINTS = 120
"""Failpoints of the longest story with one reply, a few more than it passes."""
STORIES_PER_PLACE = 30


@pytest.fixture
def coinbase(fresh_ledger: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinbasePlace]:
    with closing(places(lambda: tmp_path_factory.mktemp("coinbase"), fresh_ledger, STORIES_PER_PLACE)) as made:
        yield made


def single() -> list[Story]:
    """Each failpoint × each reply to the first order."""
    return [Story(0, (reply,), ((point,),)) for reply, point in itertools.product(REPLIES, range(POINTS))]


def drawn(seed: int) -> Iterator[Story]:
    """Two or three deaths, replies to several orders, reads that are refused, fills that come late."""
    while True:
        chance = random.Random(seed)  # noqa: S311 - a seed that tells the story again
        yield Story(
            venue=0,
            replies=tuple(chance.choice(list(REPLIES)) for _ in range(chance.randint(1, 4))),
            points=tuple((chance.randrange(POINTS),) for _ in range(chance.randint(1, 3))),
            refused_reads=chance.choice((0, 0, 1, 2, 5)),
            fill_lag_seconds=chance.choice((0, 0, 30, 90)),
        )
        seed += 1


def stories(count: int) -> list[Story]:
    """All single ones where there is room for them, else as many of them, evenly spread, as are drawn."""
    every = single()
    share = count // 2
    singles = every if count >= len(every) else [every[(number * len(every) + SEED) // share] for number in range(share)]
    return singles + list(itertools.islice(drawn(SEED * 10**6), count - len(singles)))


def test_whatever_dies_over_coinbase_comes_right(coinbase: Iterator[CoinbasePlace]) -> None:
    failed: list[str] = []
    counted: Counter[tuple[str, str]] = Counter()
    place = next(coinbase)
    for number, story in enumerate(stories(RUNS), start=1):
        told = tell(place, story)
        for reply in story.replies:
            counted[reply, told.died_at] += 1
        if told.problems:
            failed.append(f"{story}: died at {told.deaths}: {told.problems}")
        if told.problems or number % STORIES_PER_PLACE == 0:
            place = next(coinbase)
    grid.write("soft crashes at Coinbase", counted, len(failed))
    assert failed == [], "\n".join(failed[:20])


def test_every_failpoint_of_the_longest_story_over_coinbase_is_tried(coinbase: Iterator[CoinbasePlace]) -> None:
    told = tell(next(coinbase), Story(0, ("hidden, then dropped",)))
    assert told.problems == []
    assert POINTS - 10 < told.points <= POINTS
