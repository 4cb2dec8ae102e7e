"""The audit against independent implementations, on few instances."""

import pytest
from click.testing import CliRunner

from benchmarks.audit.__main__ import main


@pytest.mark.slow
def test_audit_keeps_within_its_bounds():
    result = CliRunner().invoke(main, ["--quick"])
    assert result.exit_code == 0, result.output
