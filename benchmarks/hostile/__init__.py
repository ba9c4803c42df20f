"""What hostile packets cost, and other inputs while many tables are full (R47)."""
