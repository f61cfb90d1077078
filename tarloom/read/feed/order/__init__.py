"""Which sample comes when, and whose it is: pure functions."""
