"""Networks: shapes, gradients, what a level sees, training craft, resuming, several processes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from features import ClimstackError
from features.core import registry
from features.store.matrix import Matrix
from features.store.shuffle import MIXED_ROWS
from features.views.tabular import all_levels
from models import CellStore, FitContext, FoldData, ModelSpec, cross_validate, load_family
from models.network_family import components_of
from models.seq2seq import losses
from models.seq2seq.augment import Component, input_noise, level_mask, mirror, mixup
from models.seq2seq.batches import Batches
from models.seq2seq.layers import Representations, Shape, soft_clip
from models.seq2seq.layout import Layout
from models.seq2seq.network import NetworkSpec
from models.seq2seq.settings import TrainSettings
from models.seq2seq.trainer import HISTORY, Job, make_fabric, predict, rate_at, train

ARCHITECTURES = registry.names("models.seq2seq.architectures")
N_LEVELS, N_CHANNELS, N_SCALARS, N_OUT, N_OUT_SCALARS = 12, 3, 2, 2, 3
CPU = torch.device("cpu")


def shape(n_levels=N_LEVELS):
    n_profile = n_levels * N_CHANNELS
    n_features = n_profile + N_SCALARS
    n_targets = n_levels * N_OUT + N_OUT_SCALARS
    return Shape(
        n_levels=n_levels,
        n_features=n_features,
        in_profile=np.arange(n_profile).reshape(n_levels, N_CHANNELS).tolist(),
        in_scalar=list(range(n_profile, n_features)),
        in_mean=[0.0] * n_features,
        in_std=[1.0] * n_features,
        n_profile_targets=N_OUT,
        n_scalar_targets=N_OUT_SCALARS,
        out_source=list(range(n_targets)),
    )


def spec_of(architecture, **given):
    module = f"models.seq2seq.architectures.{architecture}"
    presets = registry.load("models.seq2seq.architectures", architecture, "PRESETS", "")
    __import__(module)
    config_class = sys.modules[module].Config
    known = set(config_class.__dataclass_fields__)
    config = {key: value for key, value in presets["tiny"].items() if key in known}
    return NetworkSpec(architecture=architecture, config=config, shape=shape(), **given)


def rows(n_rows=256, seed=0):
    """Inputs, and targets that a column's neighbourhood decides."""
    rng = np.random.default_rng(seed)
    made = shape()
    x = rng.normal(size=(n_rows, made.n_features)).astype(np.float32)
    profiles = x[:, : N_LEVELS * N_CHANNELS].reshape(n_rows, N_LEVELS, N_CHANNELS)
    below = np.roll(profiles, -1, axis=1)
    out = np.stack([np.tanh(profiles[..., 0] - below[..., 1]), profiles[..., 2] + below[..., 0]], 2)
    scalar = np.stack([profiles[..., 0].mean(1) * 3, x[:, -1], profiles[:, -1, 1] * x[:, -2]], 1)
    z = np.concatenate([out.reshape(n_rows, -1), scalar], axis=1)
    return x, ((z - z.mean(0)) / z.std(0)).astype(np.float32)


def write_rows(folder, n_rows=256, name="fit", seed=0):
    folder.mkdir(exist_ok=True)
    x, z = rows(n_rows, seed)
    np.save(folder / f"{name}_features.npy", x)
    np.save(folder / f"{name}_targets.npy", z)
    return folder


QUICK = TrainSettings(epochs=3, batch_size=64, device="cpu")


def equal(one, other):
    return all(torch.equal(one[group][k], other[group][k]) for group in one for k in one[group])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads cost more than they give on tiny networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


def test_six_architectures():
    assert ARCHITECTURES == [
        "convnext1d",
        "encoder_decoder",
        "residual_lstm",
        "squeezeformer",
        "transformer",
        "unet1d",
    ]


@pytest.mark.parametrize("confidence", [False, True])
def test_gradient_reaches_every_parameter(architecture, confidence):
    torch.manual_seed(0)
    spec = spec_of(architecture, confidence=confidence, representations=("level", "column"))
    network = spec.build()
    outputs, errors = network(torch.randn(8, shape().n_features))
    assert outputs.shape == (8, N_LEVELS * N_OUT + N_OUT_SCALARS)
    loss = (outputs**2).sum()
    if confidence:
        assert errors.shape == outputs.shape
        assert (errors >= 0).all()
        loss = loss + (errors**2).sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_level_depends_on_other_levels_and_rows_do_not_depend_on_each_other(architecture):
    torch.manual_seed(0)
    network = spec_of(architecture).build().eval()
    x = torch.randn(4, shape().n_features, requires_grad=True)
    outputs, _ = network(x)
    level = 5
    for channel in range(N_OUT):
        (grad,) = torch.autograd.grad(outputs[1, level * N_OUT + channel], x, retain_graph=True)
        seen = grad[1, : N_LEVELS * N_CHANNELS].reshape(N_LEVELS, N_CHANNELS).abs().sum(1)
        assert seen[level] > 0
        assert seen[level - 1] > 0
        assert seen[level + 1] > 0
        assert seen[level + 3] > 0
        assert grad[[0, 2, 3]].abs().max() == 0


def test_overfits_256_rows(architecture, tmp_path):
    settings = TrainSettings(
        epochs=160, batch_size=32, learning_rate=3e-3, weight_decay=0.0, loss="mse", device="cpu"
    )
    folder = write_rows(tmp_path / "rows")
    spec = spec_of(architecture)
    weights = train(Job(spec=spec, settings=settings, folder=folder))
    network = spec.build()
    network.load_state_dict(weights[""])
    x, z = rows()
    fitted = predict(network, x, CPU)[0]
    r2 = 1 - ((fitted - z) ** 2).sum(0) / (z**2).sum(0)
    assert r2.mean() > 0.95


def test_published_sizes_of_the_gpu_presets(schema):
    levels = all_levels(schema, "networks")
    names = [f"x_{level}" if level >= 0 else "s" for level in levels]
    for architecture in ARCHITECTURES:
        params = load_family(architecture).Params(preset="gpu")
        config = {
            key: getattr(params, key)
            for key in load_family(architecture).config.__dataclass_fields__
        }
        made = replace(shape(60), n_profile_targets=6, n_scalar_targets=8)
        with torch.device("meta"):
            network = NetworkSpec(architecture=architecture, config=config, shape=made).build()
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        assert 13 <= millions <= 45, (architecture, millions, len(names))


def test_same_seed_equal_other_seed_not(tmp_path):
    folder = write_rows(tmp_path / "rows")
    spec = spec_of("convnext1d")
    job = Job(
        spec=spec,
        settings=replace(QUICK, input_noise=0.1, mixup=0.2, level_mask=0.1),
        seed=0,
        folder=folder,
    )
    first = train(job)
    torch.randn(3)  # whatever else draws in between
    assert equal(first, train(job))
    assert not equal(first, train(replace(job, seed=1)))


def test_torch_generator_is_left_alone(tmp_path):
    folder = write_rows(tmp_path / "rows")
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    train(Job(spec=spec_of("transformer"), settings=replace(QUICK, epochs=1), folder=folder))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("patience", [0, 3])
def test_a_killed_fit_goes_on_and_ends_equal_to_the_bit(tmp_path, patience):
    folder = write_rows(tmp_path / "rows", 512)
    write_rows(folder, 128, "watch", seed=1)
    settings = replace(
        QUICK, epochs=40, patience=patience, fine_tune_epochs=1, level_mask=0.1, confidence=0.1,
        mirror=True,
    )  # fmt: skip
    job = Job(
        spec=spec_of("squeezeformer", confidence=True),
        settings=settings,
        seed=0,
        folder=folder,
        checkpoints=tmp_path / "checkpoints",
        components=(
            Component(
                inputs=[0, 3, 6],
                input_zeros=[0.0, 0.1, 0.2],
                targets=[1, 3],
                target_zeros=[0.0, -0.1],
            ),
        ),
        groups={"first": [0, 2], "scalars": [24, 25, 26]},
    )
    whole = train(replace(job, checkpoints=None))
    learned = json.loads((folder / HISTORY).read_text())
    assert [row["phase"] for row in learned[-2:]] == ["first", "scalars"]
    assert all((row["inner_r2"] is None) == (patience == 0) for row in learned[:-2])
    (folder / HISTORY).unlink()
    script = f"""
import numpy as np, torch
from pathlib import Path
from models.seq2seq.layers import Shape
from models.seq2seq.network import NetworkSpec
from models.seq2seq.augment import Component
from models.seq2seq.settings import TrainSettings
from models.seq2seq.trainer import Job, train
from models.seq2seq.checkpoint import write_tensors
import json
spec = {job.spec!r}
settings = TrainSettings(**{settings.__dict__!r})
torch.set_num_threads({torch.get_num_threads()})
job = Job(spec=spec, settings=settings, folder=Path({str(folder)!r}),
          checkpoints=Path({str(job.checkpoints)!r}), components={job.components!r},
          groups={job.groups!r})
weights = train(job)
flat = {{g + "/" + k: v for g, state in weights.items() for k, v in state.items()}}
write_tensors(Path({str(tmp_path / "done.safetensors")!r}), flat, {{}})
"""
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, tmp_path / "script.py"])
    deadline = time.monotonic() + 120
    while not (job.checkpoints / "all.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "done.safetensors").exists()
    assert (job.checkpoints / "all.safetensors").is_file()
    subprocess.run([sys.executable, tmp_path / "script.py"], check=True)
    from safetensors.torch import load_file

    resumed = load_file(tmp_path / "done.safetensors")
    assert len(whole) == 3
    for group, state in whole.items():
        for name, value in state.items():
            assert torch.equal(resumed[f"{group}/{name}"], value), (group, name)
    assert json.loads((folder / HISTORY).read_text()) == learned


def test_a_killed_fold_goes_on_where_it_was(folded, few_targets, tmp_path, monkeypatch):
    params = {"preset": "tiny", "epochs": 4, "device": "cpu"}
    spec = ModelSpec(name="net", family="unet1d", params=params)
    whole = cross_validate(folded, spec, CellStore(tmp_path / "a"), targets=few_targets, folds=[0])
    from models.seq2seq import trainer

    epochs, original = [], trainer._Phase._epoch

    def interrupted(self, model, raw, optimizer, average, state):
        if state.epoch == 2 and not epochs[2:]:
            raise KeyboardInterrupt
        epochs.append(state.epoch)
        original(self, model, raw, optimizer, average, state)

    monkeypatch.setattr(trainer._Phase, "_epoch", interrupted)
    cells = CellStore(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        cross_validate(folded, spec, cells, targets=few_targets, folds=[0])
    monkeypatch.setattr(
        trainer._Phase,
        "_epoch",
        lambda *args: (epochs.append(args[-1].epoch), original(*args)),
    )
    again = cross_validate(folded, spec, cells, targets=few_targets, folds=[0])
    assert epochs == [0, 1, 2, 3]
    np.testing.assert_array_equal(again.oof(0), whole.oof(0))
    assert not list(cells.path.glob(".unfinished*"))


def test_a_loss_that_is_not_finite_names_its_batch(tmp_path):
    folder = write_rows(tmp_path / "rows")
    z = np.load(folder / "fit_targets.npy")
    z[:, 3] = np.inf
    np.save(folder / "fit_targets.npy", z)
    with pytest.raises(ClimstackError, match=r"the loss of batch 0 in epoch 0 is (inf|nan)"):
        train(Job(spec=spec_of("convnext1d"), settings=QUICK, folder=folder))


def test_progress_tells_rows_per_second_and_score(tmp_path, caplog):
    folder = write_rows(tmp_path / "rows")
    write_rows(folder, 64, "watch", seed=1)
    with caplog.at_level(logging.INFO, "models.seq2seq"):
        train(
            Job(
                spec=spec_of("convnext1d"),
                settings=replace(QUICK, patience=5),
                seed=0,
                folder=folder,
                name="net",
            )
        )
    assert "net: epoch 3/3, loss 0." in caplog.text
    assert "inner R2 0." in caplog.text
    assert "rows/s" in caplog.text


def test_early_stopping_keeps_the_best(tmp_path):
    folder = write_rows(tmp_path / "rows", 64)
    write_rows(folder, 256, "watch", seed=1)
    z = np.load(folder / "fit_targets.npy")
    rng = np.random.default_rng(0)
    np.save(folder / "fit_targets.npy", rng.permuted(z, axis=0))  # nothing to learn but noise
    settings = replace(QUICK, epochs=200, patience=2)
    begun = time.monotonic()
    job = Job(
        spec=spec_of("convnext1d"),
        settings=settings,
        seed=0,
        folder=folder,
        checkpoints=tmp_path / "checkpoints",
    )
    train(job)
    from models.seq2seq.checkpoint import read_tensors

    facts = json.loads(read_tensors(job.checkpoints / "all.safetensors")[1]["state"])
    assert facts["stopped"]
    assert facts["epoch"] < 200
    assert time.monotonic() - begun < 60


def _global_batches(batches, epoch):
    return [x for x, _ in batches.epoch(3, epoch)]


def numbered(folder, n_rows):
    """Rows that hold their number."""
    np.save(folder / "rows.npy", np.arange(n_rows, dtype=np.float32)[:, None])
    return Matrix.of_npy(folder / "rows.npy")


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("resident", [True, False])
def test_batches_show_each_row_once(resident, world_size, tmp_path):
    n_rows, size = 2 * MIXED_ROWS + 3 * 256 + 100, 512
    x = numbered(tmp_path, n_rows)
    left_out = []
    for epoch in range(2):
        seen = []
        for rank in range(world_size):
            batches = Batches([x, x], size, CPU, rank, world_size, resident)
            found = list(batches.epoch(3, epoch))
            assert len(found) == len(batches) == n_rows // size
            assert {len(batch) for batch, _ in found} == {size // world_size}
            assert all(torch.equal(batch, truth) for batch, truth in found)
            again = _global_batches(batches, epoch)  # as a resumed fit sees them
            assert all(torch.equal(a, b) for a, (b, _) in zip(again, found, strict=True))
            seen.append(torch.cat(again).ravel())
        together = torch.cat(seen)
        assert len(together.unique()) == len(together) == n_rows // size * size
        left_out.append(set(range(n_rows)) - set(together.long().tolist()))
        assert (together.diff() == 1).float().mean() < 0.1
    assert left_out[0] != left_out[1]


def test_streamed_batches_that_are_kept_stay_as_they_are(tmp_path):
    x = numbered(tmp_path, 5 * MIXED_ROWS)
    kept = [batch for batch, _ in Batches([x, x], 1024, CPU, resident=False).epoch(0, 0)]
    assert len(torch.cat(kept).unique()) == len(x)


def test_two_processes_reach_the_loss_of_one(tmp_path, caplog):
    folder = write_rows(tmp_path / "rows")
    spec = spec_of("convnext1d")
    # In 32 bits: with bf16 each process would round its own half of a batch.
    settings = replace(QUICK, batch_size=64, epochs=2, precision="32")
    one = train(Job(spec=spec, settings=settings, folder=folder))
    two = train(Job(spec=spec, settings=replace(settings, devices=2), folder=folder))
    x, z = rows()
    losses_found = []
    for weights in (one, two):
        network = spec.build()
        network.load_state_dict(weights[""])
        losses_found.append(((predict(network, x, CPU)[0] - z) ** 2).mean())
    assert abs(losses_found[0] - losses_found[1]) < 1e-5
    for name, value in one[""].items():
        torch.testing.assert_close(two[""][name], value, atol=1e-4, rtol=1e-4)


def test_devices_must_divide_the_batch():
    with pytest.raises(ClimstackError, match="multiple of the 3 processes"):
        TrainSettings(batch_size=64, devices=3)


def test_cuda_is_refused_where_there_is_none(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ClimstackError, match="torch sees no GPU"):
        train(
            Job(
                spec=spec_of("unet1d"),
                settings=replace(QUICK, device="cuda"),
                seed=0,
                folder=tmp_path,
            )
        )


def test_bf16_gives_nearly_the_same(tmp_path):
    folder = write_rows(tmp_path / "rows")
    spec = spec_of("transformer")
    found = []
    for precision in ("32", "bf16"):
        settings = replace(QUICK, epochs=10, precision=precision)
        network = spec.build()
        network.load_state_dict(train(Job(spec=spec, settings=settings, folder=folder))[""])
        x, z = rows()
        found.append(((predict(network, x, CPU)[0] - z) ** 2).mean())
    assert found[1] == pytest.approx(found[0], rel=0.05)
    assert make_fabric(replace(QUICK, precision="bf16"))._precision.precision == "bf16-mixed"


def test_loss_values_by_hand():
    predicted, truth = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 5.0]])
    ones = torch.ones(2)
    assert losses.total("mse", predicted, truth, ones) == pytest.approx((1 + 9) / 2)
    assert losses.total("mae", predicted, truth, ones) == pytest.approx(2.0)
    assert losses.total("huber", predicted, truth, ones, beta=2.0) == pytest.approx((0.5 + 4.0) / 2)
    smooth = losses.total("smooth_l1", predicted, truth, ones, beta=2.0)
    assert smooth == pytest.approx((0.25 + 2.0) / 2)
    weighted = losses.total("mae", predicted, truth, torch.tensor([1.0, 0.0]))
    assert weighted == pytest.approx(1.0)
    pairs = torch.tensor([[0, 1]])
    both = losses.total("mae", predicted, truth, ones, difference=0.5, pairs=pairs)
    assert both == pytest.approx(2.0 + 0.5 * 2.0)


def test_adjacent_levels_of_a_profile():
    # Two profiles on three levels; the flat order is profile by profile, level 1 of b is missing.
    source = [0, 2, 4, 1, 5]
    assert losses.adjacent(source, 3, 2).tolist() == [[0, 1], [1, 2]]


def test_schedule_of_losses_and_rate():
    settings = TrainSettings(epochs=8, loss="mae", final_loss="mse", final_share=0.25)
    assert [settings.loss_in(e) for e in range(8)] == ["mae"] * 6 + ["mse"] * 2
    rates = [rate_at(p, 0.1) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.02
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0)
    assert np.argmax(rates) == 10


def test_augmentations():
    torch.manual_seed(0)
    x, z = torch.randn(500, 7), torch.randn(500, 2)
    noisy, same = input_noise(0.5)(x, z)
    assert float((noisy - x).std()) == pytest.approx(0.5, rel=0.05)
    assert same is z
    mixed, mixed_z = mixup(0.4)(x, z)
    share = ((mixed - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    share_z = ((mixed_z - z) ** 2).sum() / ((z - z.mean(0)) ** 2).sum()
    assert share > 0
    assert float(share) == pytest.approx(float(share_z), rel=0.2)
    levels = torch.tensor([0, 1, 2, 0, 1, 2, -1])
    masked, _ = level_mask(0.3, levels)(x, z)
    hidden = masked == 0
    assert not hidden[:, 6].any()
    assert torch.equal(hidden[:, :3], hidden[:, 3:6])
    assert float(hidden[:, :3].float().mean()) == pytest.approx(0.3, abs=0.05)


def test_mirror_turns_what_it_should_and_twice_gives_the_same():
    torch.manual_seed(0)
    zeros = [0.5, -2.0], [1.0]
    x, z = torch.randn(400, 5), torch.randn(400, 3)
    turned_x, turned_z = mirror(
        Component(inputs=[1, 3], input_zeros=zeros[0], targets=[2], target_zeros=zeros[1])
    )(x, z)
    turned = (turned_x != x).any(1)
    assert 150 < turned.sum() < 250
    assert torch.equal(turned, (turned_z != z).any(1))
    torch.testing.assert_close(turned_x[turned][:, 1] - 0.5, -(x[turned][:, 1] - 0.5))
    torch.testing.assert_close(turned_x[turned][:, 3] + 2.0, -(x[turned][:, 3] + 2.0))
    torch.testing.assert_close(turned_z[turned][:, 2] - 1.0, -(z[turned][:, 2] - 1.0))
    for untouched in ([0, 2, 4], [0, 1]):
        before, after = (x, turned_x) if len(untouched) == 3 else (z, turned_z)
        assert torch.equal(before[:, untouched], after[:, untouched])


def test_mirrored_inputs_are_the_view_of_mirrored_columns(folded, store, plan, few_targets):
    """What is turned in the view is what turning the wind itself changes: nothing else."""
    family = load_family("convnext1d")
    every = store.schema.modelled_targets
    data = FoldData(data=folded, fold=0, targets=every, kind=family.view)
    rows = plan.train_rows(0)[:50]
    inputs, targets = store.inputs[rows], store.targets[rows][:, every]
    other_inputs, other_targets = inputs.copy(), targets.copy()
    for name in ("state_u", "pbuf_TAUX"):
        other_inputs[:, store.schema.slice_of(name)] *= -1
    groups = np.array(store.schema.target_groups)[every]
    other_targets[:, groups == "ptend_u"] *= -1
    (eastward, northward) = components_of(data)
    assert len(northward.targets) == len(eastward.targets) == (groups == "ptend_u").sum()
    x, z = data.view.transform(inputs), data.scaler.transform(targets)
    at, zeros = eastward.inputs, np.array(eastward.input_zeros)
    x[:, at] = np.clip(2 * zeros - x[:, at], -30, 30)
    z[:, eastward.targets] = 2 * np.array(eastward.target_zeros) - z[:, eastward.targets]
    np.testing.assert_allclose(x, data.view.transform(other_inputs), atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(z, data.scaler.transform(other_targets), atol=1e-9)


def test_soft_clip_keeps_small_values_and_order():
    x = torch.linspace(-100, 100, 4001)
    clipped = soft_clip(x, 6.0)
    inside = x.abs() <= 6
    assert torch.equal(clipped[inside], x[inside])
    assert (clipped.diff() > 0).all()
    assert clipped.abs().max() < 11


def test_representations_give_back_profile_and_row_shapes():
    rng = np.random.default_rng(0)
    n_rows, n_levels = 400, 5
    raw = rng.normal(size=(n_rows, n_levels)) * [1, 2, 3, 4, 5] + [10, 20, 30, 40, 50]
    mean, std = raw.mean(0), raw.std(0)
    flat = torch.tensor((raw - mean) / std, dtype=torch.float32)
    index = [[i] for i in range(n_levels)]
    made = Shape(
        n_levels=n_levels,
        n_features=n_levels,
        in_profile=index,
        in_scalar=[],
        in_mean=mean.tolist(),
        in_std=std.tolist(),
        n_profile_targets=1,
        n_scalar_targets=0,
        out_source=[0],
    )
    layer = Representations(made, ("level", "variable", "column"), 1e9)
    profiles, scalars = layer(flat)
    assert profiles.shape == (n_rows, n_levels, 3)
    assert scalars.shape == (n_rows, 0)
    np.testing.assert_allclose(profiles[..., 0], flat)
    np.testing.assert_allclose(profiles[..., 1], (raw - raw.mean()) / raw.std(), atol=1e-5)
    column = (raw - raw.mean(1, keepdims=True)) / raw.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(profiles[..., 2], column, atol=2e-2)


def test_layout_there_and_back():
    names = ["a_0", "a_1", "a_2", "p", "b_1", "b_2", "q"]
    layout = Layout.of(names, [0, 1, 2, -1, 1, 2, -1], 3)
    flat = np.arange(14, dtype=np.float32).reshape(2, 7) + 1
    padded = np.concatenate([flat, np.zeros((2, 1), np.float32)], axis=1)  # -1 reads as 0
    profiles, scalars = padded[:, layout.profile], flat[:, layout.scalar]
    assert layout.channels == ["a", "b"]
    np.testing.assert_array_equal(profiles[0], [[1, 0], [2, 5], [3, 6]])
    np.testing.assert_array_equal(scalars[0], [4, 7])
    together = np.concatenate([profiles.reshape(2, -1), scalars], axis=1)
    np.testing.assert_array_equal(together[:, layout.source], flat)


def test_confidence_is_stored_and_tells_rows_apart(folded, store, plan, few_targets, tmp_path):
    params = {"preset": "tiny", "epochs": 30, "batch_size": 64, "confidence": 0.5}
    spec = ModelSpec(name="net", family="convnext1d", params=params)
    member = cross_validate(folded, spec, CellStore(tmp_path), targets=few_targets, folds=[0])
    expected = member.cells[0][0].uncertainty()
    truth = store.targets[plan.valid_rows(0)][:, few_targets]
    error = np.abs(truth - member.oof(0))
    assert expected.shape == error.shape
    assert (expected >= 0).all()
    ratio = expected.mean(0) / error.mean(0)
    assert ((ratio > 0.2) & (ratio < 5)).all()  # physical units, the right size


def test_fine_tuning_changes_each_group(folded, few_targets, tmp_path):
    params = {"preset": "tiny", "epochs": 2, "fine_tune_epochs": 1}
    spec = ModelSpec(name="net", family="unet1d", params=params)
    member = cross_validate(folded, spec, CellStore(tmp_path), targets=few_targets, folds=[0])
    fitted = member.models(0)[0].fitted
    assert set(fitted.weights) == {"", "ptend_t", "ptend_q0001", "ptend_u", "scalars"}
    tuned, plain = fitted.weights["scalars"], fitted.weights[""]
    assert not torch.equal(tuned["heads.profile.weight"], plain["heads.profile.weight"]) or any(
        not torch.equal(tuned[name], plain[name]) for name in plain
    )


class FixedTrial:
    """Stands in for Optuna's trial."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def suggest_categorical(self, name, choices):
        return choices[self.rng.integers(len(choices))]

    def suggest_int(self, name, low, high, step=1, log=False):
        return int(self.rng.choice(np.arange(low, high + 1, step)))

    def suggest_float(self, name, low, high, step=None, log=False):
        return float(self.rng.uniform(low, high))


def test_search_spaces_give_accepted_parameters(architecture):
    family = load_family(architecture)
    found = [family.search_space(FixedTrial(seed)) for seed in range(4)]
    for params in found:
        ModelSpec(name="m", family=architecture, params=params)
    assert len({json.dumps(params, sort_keys=True) for params in found}) == 4
    assert {"learning_rate", "weight_decay", "dim"} <= set(found[0])


def test_seq2seq_imports_with_torch_lightning_and_numpy_alone():
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"polars", "lightgbm", "xgboost", "optuna", "sklearn", "joblib",
                                  "scipy", "safetensors", "threadpoolctl"}:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
import importlib, pkgutil
import models.seq2seq
for module in pkgutil.walk_packages(models.seq2seq.__path__, "models.seq2seq."):
    importlib.import_module(module.name)
assert "models.seq2seq.trainer" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


def test_a_family_reads_both_loaded_and_fresh_rows_alike(folded, few_targets, tmp_path):
    family = load_family("transformer")
    data = FoldData(data=folded, fold=0, targets=few_targets, kind=family.view)
    params = family.Params(preset="tiny", epochs=1)
    prepared = family.prepare(data, params, tmp_path)
    ((_, model),) = family.fit(prepared, [list(range(5))], params, FitContext())
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    x = np.load(tmp_path / "fit_features.npy")[:50]
    np.testing.assert_array_equal(family.load(tmp_path / "model").predict(x), model.predict(x))
