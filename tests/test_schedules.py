"""Schedules: their rates by hand and by the formulas of others, their pictures, and what they refuse."""

import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import schedules

HALF = math.sqrt(0.5)
RATES = [
    (schedules.step_decay(0.8, 0.5, every=2), [0.8, 0.8, 0.4, 0.4, 0.2]),
    (schedules.exponential_decay(1.0, 0.1), [1, 0.1, 0.01, 0.001, 0.0001]),
    (schedules.cosine_decay(1.0, 4, final=0.2), [1, 0.6 + 0.4 * HALF, 0.6, 0.6 - 0.4 * HALF, 0.2, 0.2, 0.2]),
    (schedules.linear_warmup(0.4, 4), [0.1, 0.2, 0.3, 0.4, 0.4]),
    (schedules.linear_warmup(schedules.exponential_decay(1.0, 0.5), 2), [0.5, 0.5, 0.25, 0.125, 0.0625]),
    (schedules.cosine(1, 4, 0.2), [1, 0.6 + 0.4 * HALF, 0.6, 0.6 - 0.4 * HALF, 0.2, 0.2, 0.2]),
    (schedules.cosine(0.9, 4, warmup=2), [0.3, 0.6, 0.9, 0.45, 0, 0]),
    (schedules.linear(1, 4, 0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
    (schedules.linear(0.9, 4, warmup=2), [0.3, 0.6, 0.9, 0.45, 0, 0]),
    (schedules.linear(0.8, 2, warmup=1), [0.4, 0.8, 0, 0]),
    (schedules.step(0.8, every=2), [0.8, 0.8, 0.4, 0.4, 0.2]),
    (schedules.step(0.8, 0.1, 1, warmup=1), [0.4, 0.8, 0.08, 0.008]),
    (schedules.exponential(1, 0.5), [1, 0.5, 0.25]),
    (schedules.exponential(1, 0.5, warmup=3), [0.25, 0.5, 0.75, 1, 0.5, 0.25]),
    (schedules.one_cycle(1, 7, start=0.2, final=0, warmup=2), [0.2, 0.6, 1, 0.5 + HALF / 2, 0.5, 0.5 - HALF / 2, 0, 0]),
    (schedules.one_cycle(1, 3, final=0, warmup=0), [1, 0.5, 0, 0]),
    (schedules.piecewise([1, 0.1, 0.01], [2, 3]), [1, 1, 0.1, 0.01, 0.01]),
    (schedules.piecewise([0.3, 0.1], [3], warmup=2), [0.1, 0.2, 0.3, 0.1]),
    (schedules.piecewise([0.3], [], warmup=1), [0.15, 0.3, 0.3]),
]


@pytest.mark.parametrize(
    ("schedule", "expected"), RATES, ids=[f"{i} {type(s).__name__}" for i, (s, _) in enumerate(RATES)]
)
def test_rates_by_hand(schedule, expected):
    assert [schedule(t) for t in range(len(expected))] == pytest.approx(expected, abs=1e-15)
    assert fnn.SGD(lr=schedule).rate(1) == pytest.approx(expected[1])
    assert schedules.is_known(schedule)


def test_one_cycle_is_that_of_pytorch():
    """OneCycleLR(max_lr, total_steps): phases end at pct_start · total - 1 and at total - 1; div_factor 25 and 1e4."""
    peak, total = 0.3, 20
    ends = [0, 0.3 * total - 1, total - 1]
    rates = [peak / 25, peak, peak / 25 / 1e4]

    def expected(t):
        phase = 0 if t <= ends[1] else 1
        share = (t - ends[phase]) / (ends[phase + 1] - ends[phase])
        return rates[phase + 1] + (rates[phase] - rates[phase + 1]) / 2 * (math.cos(math.pi * share) + 1)

    schedule = schedules.one_cycle(peak, total, warmup=5)
    np.testing.assert_allclose([schedule(t) for t in range(total)], [expected(t) for t in range(total)], rtol=1e-13)
    assert schedules.one_cycle(peak, total).warmup == 6


@pytest.mark.parametrize("warmup", [1, 2, 7])
@pytest.mark.parametrize(
    "make",
    [
        lambda **settings: schedules.cosine(0.3, 20, **settings),
        lambda **settings: schedules.linear(0.3, 20, **settings),
        lambda **settings: schedules.step(0.3, every=3, **settings),
        lambda **settings: schedules.exponential(0.3, **settings),
        lambda **settings: schedules.one_cycle(0.3, 20, start=0, **settings),
    ],
    ids=["cosine", "linear", "step", "exponential", "one_cycle"],
)
def test_the_peak_is_reached_and_then_it_falls(make, warmup):
    rates = np.array([make(warmup=warmup)(t) for t in range(20)])
    assert rates[warmup] == rates.max() == 0.3
    assert (np.diff(rates[: warmup + 1]) > 0).all()
    assert (np.diff(rates[warmup:]) <= 0).all()
    assert rates[-1] < 0.3
    assert make(warmup=np.int64(warmup)) == make(warmup=warmup)
    assert make(warmup=np.int64(0)) == make(warmup=0)


def test_which_are_known():
    assert schedules.is_known(0.1)
    assert not schedules.is_known(lambda epoch: 0.1)
    assert not schedules.is_known(schedules.linear_warmup(lambda epoch: 0.1, 3))


def test_what_they_count():
    assert schedules.step_decay(1).per == schedules.cosine(1, 5).per == schedules.linear_warmup(1, 2).per == "epoch"
    by_step = schedules.exponential(1, per="step")
    assert by_step.per == schedules.linear_warmup(by_step, 2).per == "step"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: schedules.step_decay(0), ValueError, "lr is 0, expected a finite number > 0"),
        (lambda: schedules.step_decay(1, factor=-1), ValueError, "factor is -1, expected a finite number > 0"),
        (lambda: schedules.step_decay(1, every=0), ValueError, "every is 0, expected a positive integer"),
        (lambda: schedules.cosine_decay(1, 0), ValueError, "epochs is 0, expected a positive integer"),
        (lambda: schedules.cosine_decay(1, 5, final=-1), ValueError, "final is -1, expected a finite number >= 0"),
        (lambda: schedules.linear_warmup(-1, 5), ValueError, "schedule is -1, expected a finite number > 0"),
        (lambda: schedules.cosine(1, 5, warmup=-1), ValueError, "warmup is -1, expected an integer >= 0"),
        (lambda: schedules.cosine(1, 5, warmup=0.5), TypeError, "warmup is 0.5, expected an integer >= 0"),
        (lambda: schedules.cosine(1, 5, warmup=5), ValueError, "warmup is 5, but length is 5: expected fewer, since"),
        (lambda: schedules.linear(1, 5, per="batch"), ValueError, "per is 'batch', expected 'epoch' or 'step'"),
        (lambda: schedules.step(1, every=0), ValueError, "every is 0, expected a positive integer"),
        (lambda: schedules.exponential(1, 0), ValueError, "factor is 0, expected a finite number > 0"),
        (lambda: schedules.one_cycle(1, 5, start=-1), ValueError, "start is -1, expected a finite number >= 0"),
        (lambda: schedules.one_cycle(1, 1), ValueError, "length is 1, but 0 rates come .*: expected at least 2"),
        (lambda: schedules.one_cycle(1, 5, warmup=4), ValueError, "length is 5, but 4 rates .*: expected at least 6"),
        (lambda: schedules.piecewise(0.1, []), TypeError, "rates is 0.1, expected a sequence of numbers"),
        (lambda: schedules.piecewise([1, 2], "5"), TypeError, "boundaries is '5', expected a sequence of numbers"),
        (lambda: schedules.piecewise([1, 0], [3]), ValueError, r"rates\[1\] is 0, expected a finite number > 0"),
        (lambda: schedules.piecewise([1, 2], [0]), ValueError, r"boundaries\[0\] is 0, expected a positive integer"),
        (lambda: schedules.piecewise([1, 2], [3, 4]), ValueError, "there are 2 rates and 2 boundaries: expected one"),
        (
            lambda: schedules.piecewise([1, 2, 3], [3, 3]),
            ValueError,
            r"boundaries\[1\] is 3, but boundaries\[0\] is 3: expected more",
        ),
        (
            lambda: schedules.piecewise([1, 2], [3], warmup=3),
            ValueError,
            r"boundaries\[0\] is 3, but the warm-up is 3: expected more",
        ),
        (lambda: schedules.cosine(1, 5).plot(n=0), ValueError, "n is 0, expected a positive integer"),
    ],
)
def test_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


class TestPlot:
    @pytest.fixture(autouse=True)
    def pyplot(self):
        pytest.importorskip("matplotlib").use("Agg")
        from matplotlib import pyplot

        yield pyplot
        pyplot.close("all")

    @pytest.mark.parametrize(
        "schedule", [s for s, _ in RATES], ids=[f"{i} {type(s).__name__}" for i, (s, _) in enumerate(RATES)]
    )
    def test_all_of_it_is_seen(self, schedule):
        (line,) = schedule.plot().get_lines()
        t, rates = line.get_data()
        assert rates == pytest.approx([schedule(i) for i in t])
        later = [schedule(int(t[-1]) + i) for i in range(5)]
        assert max(later) <= max(rates)  # the peak is drawn, and a fall as far as it goes, or nearly
        assert len(set(rates)) > 1 or len(set(later)) == 1

    def test_into_axes_of_the_user(self, pyplot):
        _, ax = pyplot.subplots()
        assert schedules.cosine(1, 5, per="step").plot(ax, n=3) is ax
        assert len(ax.get_lines()[0].get_xdata()) == 3
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("update", "learning rate")
        assert schedules.cosine(1, 5).plot().get_xlabel() == "epoch"


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install 'fastnn\[plots\]'"):
        schedules.cosine(1, 5).plot()
