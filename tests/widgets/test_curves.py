from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from widgets.curves import Curve, Curves, extremes
from workbench.events import Event, Events


@given(hnp.arrays(np.float64, st.integers(2, 400), elements=st.floats(-1e6, 1e6) | st.just(float("nan"))), st.integers(1, 40))
def test_thinning_keeps_ends_and_the_extremes_of_each_column(values, columns):
    steps = np.arange(len(values), dtype=float)
    kept = extremes(steps, values, columns)
    assert kept[0] == 0 and kept[-1] == len(values) - 1 and (np.diff(kept) > 0).all()
    column = np.minimum((steps * (columns / (len(values) - 1))).astype(int), columns - 1)
    for c in np.unique(column):
        mine, seen = values[column == c], values[kept][column[kept] == c]
        if np.isfinite(mine).any():
            assert np.nanmin(mine) == np.nanmin(seen) and np.nanmax(mine) == np.nanmax(seen)
        assert np.isnan(mine).any() == np.isnan(seen).any()
    assert len(kept) <= 5 * columns


def test_a_step_written_again_replaces_what_stood_from_there_on():
    curve = Curve(np.array([0.0, 1, 2, 3]), np.array([4.0, 3, 2, 1]))
    curve.add([2, 3, 4], [9, 8, 7])
    assert curve.window().tolist() == [[0, 4], [1, 3], [2, 9], [3, 8], [4, 7]]


def test_a_window_reaches_one_point_beyond_its_ends():
    curve = Curve(np.arange(100.0), np.arange(100.0))
    assert curve.window(10, 20)[:, 0].tolist() == list(range(9, 22))


def test_history_and_news_make_one_curve(workspace):
    events = Events(workspace)
    for step in range(5):
        events.point("run", "loss", step, float(step))
    events.point("run", "loss", 3, 30.0)
    events.point("run", "loss", 5, float("nan"))
    curves = Curves(events, "run")
    assert curves.get("loss").window()[:5].tolist() == [[0, 0], [1, 1], [2, 2], [3, 30], [4, 4]]
    assert np.isnan(curves.get("loss").window()[5, 1])
    fresh = curves.feed([Event(99, "run", "point", 0.0, "loss", 6, 6.0), Event(100, "run", "log", 0.0)])
    assert fresh["loss"].tolist() == [[6, 6]]
    assert curves.get("loss").count == 7 and curves.names() == ["loss"]
