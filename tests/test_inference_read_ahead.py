"""Reading ahead: order, bound and errors."""

import threading
import time

import pytest

from spml.inference.read_ahead import read_ahead


def test_order_and_bound():
    """What is read but not taken yet is never more than `ahead`, the one at hand and the one being read."""
    begun = []
    for taken, (item, result) in enumerate(read_ahead(range(9), lambda i: (begun.append(i), i * i)[1], ahead=2)):
        assert (item, result) == (taken, taken**2)
        assert len(begun) <= taken + 1 + 2
    assert begun == list(range(9))
    assert list(read_ahead([], str)) == []


def test_the_next_is_read_meanwhile():
    second = threading.Event()
    pairs = read_ahead([0, 1], lambda i: second.set() if i else None, ahead=1)
    next(pairs)
    assert second.wait(5)


def test_an_error_comes_at_its_turn_and_ends_the_reading():
    begun = []

    def read(item):
        begun.append(item)
        if item == 1:
            time.sleep(0.01)
            raise ValueError("item 1")
        return item

    pairs = read_ahead(range(50), read)
    assert next(pairs) == (0, 0)
    with pytest.raises(ValueError, match="item 1"):
        next(pairs)
    assert len(begun) <= 4
    assert threading.active_count() < 50
