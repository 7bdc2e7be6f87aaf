"""Order samples and draw random numbers: pure functions of integers."""
