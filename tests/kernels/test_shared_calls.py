"""Calls that are shared out among the threads: each is made once, and what one raises is raised."""

import pytest

from fastnn.kernels.threading import team


@pytest.fixture(params=[1, 2])
def threads(request):
    before = team.get_num_threads()
    team.set_num_threads(request.param)
    yield request.param
    team.set_num_threads(before)


def test_each_is_made_once(threads):
    made = []
    team.share_out([lambda i=i: made.append((i, team.get_num_threads())) for i in range(50)])
    assert sorted(made) == [(i, 1) for i in range(50)]


@pytest.mark.parametrize("kind", [IndexError, MemoryError, KeyboardInterrupt])
def test_no_exception_is_lost(kind, threads):
    def fail():
        raise kind("of a call")

    made = []
    with pytest.raises(kind, match="of a call"):
        team.share_out([*[fail] * threads, *[lambda: made.append(0)] * 50])
    assert made == []
