"""What the package itself offers."""

import inspect
import pkgutil
from importlib import import_module

import cascjax


def test_a_name_is_the_same_whatever_has_been_imported() -> None:
    # A name that a module bears as well would be the module once that is imported.
    for module in pkgutil.iter_modules(cascjax.__path__, "cascjax."):
        import_module(module.name)
    for name in cascjax.__all__:
        assert not inspect.ismodule(getattr(cascjax, name)), name
