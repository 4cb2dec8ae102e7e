"""Folders for what later processes need not make again."""

import os
from pathlib import Path


def private_folder(name: str) -> Path | None:
    """Return a folder of the user's cache, which is made; None where others could write to it."""
    import platformdirs

    folder = platformdirs.user_cache_path("cascjax") / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    return folder if status.st_uid == os.getuid() and not status.st_mode & 0o077 else None
