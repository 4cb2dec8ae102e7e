"""The command fit."""

from cascjax.cli.legacy.policy import fit as command

__all__ = ["command"]
