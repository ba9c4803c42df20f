"""What things cost: `make bench`. Measurements, not tests: they never fail."""
