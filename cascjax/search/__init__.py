"""Parameters for a budget, and the whole frontier."""
