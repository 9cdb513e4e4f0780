# SPDX-License-Identifier: Apache-2.0
"""Wake-ups: news for one goes from one waiter to the next until it is taken; other news is for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from heat_workflow.wakeup import News, Wakeups

ROUTE = "route:p:pool"


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    return asyncio.run


@contextlib.contextmanager
def waiting(wakeups: Wakeups, count: int, key: str = ROUTE) -> Iterator[list[News]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(wakeups.watch([key])) for _ in range(count)]


def rung(all_news: list[News]) -> list[int]:
    return [n for n, news in enumerate(all_news) if news.hints]


def test_news_of_two_tasks_is_shown_to_the_two_who_came_first(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 5) as five:
            wakeups.publish({ROUTE: 2})
            assert rung(five) == [0, 1]
            wakeups.publish({ROUTE: 1})
            assert rung(five) == [0, 1, 2]

    run(story())


def test_other_news_is_for_all(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 3, "workflow:w") as three:
            wakeups.publish({"workflow:w": 1})
            for news in three:
                await asyncio.wait_for(news.wait(20), 1)

    run(story())


def test_a_hint_that_is_passed_on_comes_to_each_once(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 4) as four:
            wakeups.publish({ROUTE: 1})
            for n in range(4):
                assert rung(four) == [n]
                wakeups.pass_on(four[n].take_hints().values())
            assert rung(four) == []

    run(story())


def test_a_waiter_that_leaves_passes_on_what_it_did_not_look_at(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 1) as [stays]:
            with contextlib.suppress(ConnectionError), wakeups.watch([ROUTE]) as first:
                wakeups.publish({ROUTE: 2})
                assert (rung([stays]), rung([first])) == ([0], [0])
                stays.take_hints()
                raise ConnectionError
            assert rung([stays]) == [0]

    run(story())


def test_news_that_comes_while_a_waiter_looks_is_not_lost(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 1) as [only]:
            wakeups.publish({ROUTE: 1})
            await only.wait(20)
            only.take_hints()  # it looks now; another task becomes ready
            wakeups.publish({ROUTE: 1})
            await asyncio.wait_for(only.wait(20), 1)
            assert rung([only]) == [0]

    run(story())


def test_nobody_waits_after_the_end(run: Callable[..., None]) -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with waiting(wakeups, 2) as two:
            wakeups.close()
            for news in two:
                await asyncio.wait_for(news.wait(20), 1)
                assert news.closed

    run(story())
