"""How good a policy is: the benchmark, its statistics, and the summary that tables show."""
