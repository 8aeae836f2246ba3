"""What bench/ramp.py asks for over time, and what it calls flapping."""

from __future__ import annotations

import pytest
from ramp import clients_at, flaps


@pytest.mark.parametrize(
    ("share", "clients"),
    [
        (0.0, 1),
        (0.125, 32),  # up in a quarter of the time
        (0.25, 64),  # as many for a quarter
        (0.5, 64),
        (0.625, 32),  # down to one in the third
        (0.75, 1),
        (0.9, 1),  # and one in the last
        (1.0, 1),
    ],
)
def test_the_load_is_a_trapezium(share: float, clients: int) -> None:
    assert clients_at(share, peak=64) == clients


def test_it_grows_until_the_peak_and_falls_after_it() -> None:
    load = [clients_at(number / 1000, peak=64) for number in range(1001)]
    assert load[:500] == sorted(load[:500])
    assert load[500:] == sorted(load[500:], reverse=True)
    assert (min(load), max(load)) == (1, 64)


def test_one_client_is_a_load_of_one() -> None:
    assert {clients_at(number / 100, peak=1) for number in range(101)} == {1}


@pytest.mark.parametrize(
    ("wanted", "times"),
    [
        ([], 0),
        ([1], 0),
        ([2, 2, 2], 0),
        ([1, 1, 2, 3, 3, 2, 1, 1], 0),  # with the load, up once and down once
        ([3, 2, 1], 0),
        ([1, 2, 1, 2, 1], 1),
        ([1, 2, 1, 2, 2, 1, 1, 3], 2),
        ([2, 1, 2], 1),  # it began by going down
        ([2, 1, 2, 1, 2], 2),
        ([3, 1, 2, 3], 1),  # one way up in two steps
    ],
)
def test_to_flap_is_to_go_down_and_up_again(wanted: list[int], times: int) -> None:
    assert flaps(wanted) == times
