"""A long run with everything that happens in a year, and whether anything grows."""
