"""Fitted arrays that fit no longer, and what is said of each."""

import warnings

import numpy as np


def reshape(array, shape, attribute="shape"):
    """Give an array another shape in place, of which newer releases of NumPy warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        setattr(array, attribute, shape)


def more_rows(model):
    model.coefs_[0] = np.vstack([model.coefs_[0]] * 2)


def fewer_rows(model):
    model.coefs_[0] = model.coefs_[0][:3]


def fewer_units(model):
    model.coefs_[1] = model.coefs_[1][:, :5]


def a_wider_intercept(model):
    model.intercepts_[0] = np.zeros(13)


def a_column_as_intercept(model):
    model.intercepts_[0] = np.zeros((12, 1))


def another_shape_in_place(model):
    reshape(model.coefs_[0], (12, 4))


def another_intercept_in_place(model):
    reshape(model.intercepts_[0], (4, 3))


def no_axes(model):
    model.coefs_[1] = np.float64(2.0)


MISFITS = {
    more_rows: r"X has 4 features, but coefs_\[0\] has 8 rows: they must be equal",
    fewer_rows: r"X has 4 features, but coefs_\[0\] has 3 rows",
    fewer_units: r"coefs_ have shapes \[\(4, 12\), \(12, 5\), \(7, \d\)\], but the columns of one must be the rows of",
    a_wider_intercept: r"intercepts_ have shapes \[\(13,\), \(7,\), \(\d,\)\], but coefs_ have .*: there must be one",
    a_column_as_intercept: r"intercepts_ have shapes \[\(12, 1\), ",
    another_shape_in_place: r"coefs_ have shapes \[\(12, 4\), \(12, 7\), ",
    another_intercept_in_place: r"intercepts_ have shapes \[\(4, 3\), ",
    no_axes: r"coefs_ have shapes \[\(4, 12\), \(\), ",
}
