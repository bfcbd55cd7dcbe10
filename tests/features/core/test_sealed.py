import pytest

from features import ClimstackError
from features.core.sealed import is_sealed, read_sealed, seal, write_sealed


def test_a_changed_digit_is_seen(tmp_path):
    file = tmp_path / "a.json"
    write_sealed(file, {"weights": [0.25, 0.75]})
    assert read_sealed(file, "make it again") == {"weights": [0.25, 0.75]}
    text = file.read_text()
    for damaged in (text.replace("0.25", "0.26"), text[:-5], "[]", "", "[" * 100_000):
        file.write_text(damaged)
        with pytest.raises(ClimstackError, match=r"a\.json is damaged.*: make it again$"):
            read_sealed(file, "make it again")


def test_what_json_can_not_hold_is_not_sealed():
    assert is_sealed(seal({"a": 1}))
    assert not is_sealed({"a": float("nan"), "checksum": "0"})
    assert not is_sealed([])
