import pytest

from features.core import memory


@pytest.mark.parametrize(
    ("own", "folder", "limit", "taken"),
    [
        ("0::/user/job\n", "user", "memory.max", "memory.current"),
        (
            "4:memory:/job\n",
            "memory/job",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_limit_of_a_group_counts(own, folder, limit, taken, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    free = memory.free_memory()
    assert free > 10_000
    (tmp_path / "own").write_text(own)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / limit).write_text("9000\n")
    (tmp_path / folder / taken).write_text("2000\n")
    assert memory.free_memory() == 7000
    (tmp_path / folder / limit).write_text("max\n")
    assert memory.free_memory() > 10_000
