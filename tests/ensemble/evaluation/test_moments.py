from dataclasses import replace

import numpy as np

from ensemble import HeldOut, collect_moments


def test_moments_are_kept_and_a_new_member_only_adds_its_own(
    rows, members, moments, tmp_path, monkeypatch
):
    cache = tmp_path / "moments.npz"
    collect_moments(replace(rows, members=members[:1]), cache)
    grown = collect_moments(replace(rows, members=members[::-1]), cache).members([1, 0])
    scale = np.abs(moments.comoment).max((0, 2, 3))[None, :, None, None]
    np.testing.assert_allclose(grown.comoment / scale, moments.comoment / scale, atol=1e-12)
    monkeypatch.setattr(HeldOut, "blocks", None)  # no pass any more
    again = collect_moments(rows, cache)
    np.testing.assert_array_equal(again.comoment, grown.comoment)
