from ensemble.experiment.changes import changes


def test_changes_are_named_with_both_values():
    old = {"seed": 1, "models": [{"name": "a", "params": {"rounds": 3}}], "folds": {"n": 3}}
    new = {"seed": 1, "models": [{"name": "a", "params": {"rounds": 4}}], "folds": {"n": 3}}
    assert changes(old, old) == ""
    assert changes(old, new) == "models.a.params.rounds (3, now 4)"
    assert changes(old, {**old, "more": True}) == "more (none, now True)"
    many = changes({}, {str(i): i for i in range(7)})
    assert many.endswith(", 3 (none, now 3), and 3 more")
