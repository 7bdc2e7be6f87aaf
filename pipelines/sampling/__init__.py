"""Which sample comes when, and every random draw: pure functions of integers."""
