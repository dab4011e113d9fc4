"""Probabilities of one row, as a service asks for them, and of many."""

from .common import BACKENDS, CASES, DTYPES, assert_agrees, benchmark, build, on_reference, use

NETWORKS, ROWS = CASES.INFERENCE


@benchmark("predict_proba", {"backend": BACKENDS, "dtype": DTYPES, "network": NETWORKS, "rows": ROWS})
def time_predict_proba(backend, dtype, network, rows):
    widths = CASES.TRAINING[network][0]
    x, _ = CASES.samples(rows, widths, "cross_entropy", dtype, use(backend))
    model = build(widths, dtype)
    assert_agrees(model.predict_proba(x), on_reference(model.predict_proba, x), dtype)
    return lambda: model.predict_proba(x)
