"""The command tune."""

from cascjax.cli.legacy.policy import tune as command

__all__ = ["command"]
