"""What is common to errors: how those of others are told in one line."""

import pytest

from tarloom.errors import first_line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("the footer is damaged\n  at byte 7"), "the footer is damaged"),
        (ValueError("\n  \n said late \n"), "said late"),
        (OSError(), "OSError"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
    ],
)
def test_an_error_of_others_is_told_in_one_line_and_by_its_kind_where_it_says_nothing(error, told):
    assert first_line(error) == told
