import importlib

import pytest


@pytest.mark.parametrize("package", ["features", "models", "tuning"])
def test_completion_shows_the_public_names(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing
