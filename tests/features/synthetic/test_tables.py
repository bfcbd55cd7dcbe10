import numpy as np
import polars as pl
import pytest

from features import ClimstackError
from features.synthetic import write_table
from features.synthetic.tables import KINDS, arm_torques


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_a_function_of_its_seed_and_keeps_its_test_rows_apart(kind, tmp_path):
    files = write_table(kind, tmp_path / "a", 300, seed=1)
    again = write_table(kind, tmp_path / "b", 300, seed=1)
    for name, file in files.items():
        assert file.read_bytes() == again[name].read_bytes()
    train, test, solution = (pl.read_csv(files[name]) for name in ("train", "test", "solution"))
    targets = [column for column in train.columns if column not in test.columns]
    assert solution.columns == train.columns
    assert len(test) == len(solution) > 30
    assert len(train) > 2 * len(test)
    assert (
        len(targets) == {"robot_arm": 7, "molecules": 200, "wind_farm": 5, "air_and_soil": 52}[kind]
    )


def test_what_people_bring_is_in_them(tmp_path):
    molecules = pl.read_csv(write_table("molecules", tmp_path, 600)["train"])
    missing = molecules.select(pl.col("^property_.*$").is_null().mean()).to_numpy()
    assert np.all((missing > 0.15) & (missing < 0.45))
    held = pl.read_csv(tmp_path / "test.csv")
    assert not set(held["scaffold"]) & set(molecules["scaffold"])
    wind = pl.read_csv(write_table("wind_farm", tmp_path, 900)["train"], try_parse_dates=True)
    per_hour = wind.group_by("date").len()["len"]
    assert per_hour.min() < per_hour.max() <= 6
    assert wind["wind"].null_count() > 0
    assert wind["curtailed"].dtype == pl.Boolean


def test_an_arm_at_rest_holds_its_own_weight():
    level = np.zeros((1, 7))
    held = arm_torques(level, level, level)[0]
    assert held[0] == pytest.approx(9.81 * 2.0 * 0.3 * 7 * 3.5)  # 7 links, 3.5 lengths out
    assert held[6] == pytest.approx(9.81 * 2.0 * 0.15)
    up = np.array([[np.pi / 2, 0, 0, 0, 0, 0, 0]])
    assert np.abs(arm_torques(up, level, level)).max() < 1e-12
    # Kicked at the first joint alone, a rigid rod: m L^2 / 3, beside its weight.
    kick = np.array([[1.0, 0, 0, 0, 0, 0, 0]])
    assert arm_torques(level, level, kick)[0, 0] - held[0] == pytest.approx(14.0 * 2.1**2 / 3)


def test_an_unknown_kind_names_the_closest(tmp_path):
    with pytest.raises(ClimstackError, match="did you mean 'wind_farm'"):
        write_table("windfarm", tmp_path)
