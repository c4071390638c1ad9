"""Measurements: rate against quality, the cost of each part, and the parsers under fuzz."""
