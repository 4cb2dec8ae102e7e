"""Commands whose functions do not take every source yet."""
