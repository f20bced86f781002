"""Training of images: interrupted and resumed, dealt to processes, and what goes wrong on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ddpm_lite import edm, matching_loss
from ddpm_lite.images import checkpoints, training
from ddpm_lite.images.config import PRESETS, Config, from_dict, make_network, override, read, to_dict
from ddpm_lite.images.data import Images, as_float, load

SMALL = override(PRESETS["digits"], ["steps=12", "batch=16", "network.width=8", "warmup=4"])


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def losses(folder: Path) -> dict[int, float]:
    with open(folder / "log.csv", newline="") as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}


def same(a: Path, b: Path) -> bool:
    here, there = tensors(a), tensors(b)
    return here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def apart(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The distance of weights in units of the way that training took them: Adam enlarges round-off in single ones."""
    torch.manual_seed(SMALL.seed)
    start = make_network(SMALL).state_dict()
    begin = torch.cat([start[name.partition(".")[2]].flatten() for name in wanted])
    a, b = (torch.cat([each[name].flatten() for name in wanted]) for each in (found, wanted))
    return ((a - b).norm() / (b - begin).norm()).item()


def command(folder: Path, *changes: str, steps: int = 12) -> list[str]:
    options = [part for change in ["batch=16", "network.width=8", "warmup=4", *changes] for part in ("--set", change)]
    return [
        sys.executable,
        "-m",
        "ddpm_lite",
        "train",
        "digits",
        "--steps",
        str(steps),
        "--output",
        str(folder),
        "--no-watch",
        *options,
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "ACCELERATE_USE_CPU": "true"}


# What a step sees


def test_a_step_depends_on_the_seed_and_the_step_alone() -> None:
    images = load("digits")
    a, b = training.draw(images, SMALL, 5), training.draw(images, SMALL, 5)
    training.draw(images, SMALL, 2)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for other in (training.draw(images, SMALL, 6), training.draw(images, replace(SMALL, seed=1), 5)):
        assert not torch.equal(a.x1, other.x1)
        assert not torch.equal(a.t, other.t)
        assert not torch.equal(a.x0, other.x0)


def test_every_image_is_seen_equally_often() -> None:
    """Batches of 16 from 30 images: after 15 steps, 8 rounds are complete, across the borders of batches."""
    pixels = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    images = Images(pixels, torch.zeros(30, dtype=torch.int64), ("one",))
    seen = torch.cat([training.draw(images, SMALL, step).x0[:, 0, 0, 0] for step in range(15)])
    assert torch.equal(seen, as_float((((seen + 1) * 127.5).round()).to(torch.uint8)))
    number = ((seen + 1) * 127.5).round().long()
    assert number.bincount(minlength=30).tolist() == [8] * 30
    rounds = number.view(8, 30)
    assert all(row.unique().numel() == 30 for row in rounds)
    assert not torch.equal(rounds[0], rounds[1])


def test_labels_are_dropped_as_often_as_asked() -> None:
    images, config = load("digits"), replace(SMALL, batch=1000, drop=0.2)
    parts = [training.draw(images, config, step) for step in range(6)]
    dropped = torch.cat([part.cond == 10 for part in parts]).double().mean()
    assert abs(dropped - 0.2) < 5 * (0.2 * 0.8 / 6000) ** 0.5  # five standard errors: false alarm 6e-7
    kept = parts[0].cond != 10
    rows = {
        tuple(row): int(k)
        for row, k in zip(as_float(images.pixels, 17).flatten(1).tolist(), images.labels, strict=True)
    }
    found = [rows[tuple(row)] for row in parts[0].x0[kept].flatten(1).tolist()]
    assert found == parts[0].cond[kept].tolist()


def test_a_network_without_classes_gets_no_labels() -> None:
    config = override(SMALL, ["network.classes=0"])
    assert training.draw(load("digits"), config, 0).cond is None
    with pytest.raises(ValueError, match="the network has 3 classes, the data 10"):
        training.draw(load("digits"), override(SMALL, ["network.classes=3"]), 0)


def test_optimal_transport_pairs_what_is_near() -> None:
    images = load("digits")
    far, near = (training.draw(images, replace(SMALL, coupling=c), 0) for c in ("independent", "ot"))
    assert torch.equal(far.x0, near.x0)
    assert torch.equal(far.x1.flatten(1).sum(1).sort().values, near.x1.flatten(1).sum(1).sort().values)
    assert (near.x1 - near.x0).square().sum() < (far.x1 - far.x0).square().sum()


def test_the_callers_random_numbers_stay(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    training.train(replace(SMALL, steps=2), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


# The step itself, by hand


def test_the_weights_are_those_of_plain_torch(tmp_path: Path) -> None:
    """Twelve steps of torch.optim.Adam written out, on the same batches."""
    path = training.train(SMALL, tmp_path, log_every=1)
    torch.manual_seed(SMALL.seed)
    net = make_network(SMALL).train()
    adam = torch.optim.Adam(net.parameters())
    average = {name: value.clone() for name, value in net.state_dict().items()}
    images, seen = load("digits"), {}
    for k in range(12):
        x0, x1, t, cond = training.draw(images, SMALL, k)
        loss = matching_loss(net, SMALL.noise_path(), x0, kind=edm(0.7), t=t, x1=x1, cond=cond).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.param_groups[0]["lr"] = 1e-3 * ((k + 1) / 4 if k < 4 else (12 - k) / 8)
        adam.step()
        d = min(0.999, (1 + k) / (10 + k))
        average = {name: d * average[name] + (1 - d) * value for name, value in net.state_dict().items()}
        seen[k + 1] = loss.item()
    found = tensors(path)
    assert losses(tmp_path) == pytest.approx(seen, rel=1e-5)
    assert apart(found, {f"model.{name}": value for name, value in net.state_dict().items()}) < 0.01
    assert apart(found, {f"average.{name}": value for name, value in average.items()}) < 0.01


def test_parts_one_after_the_other_give_the_whole_gradient(tmp_path: Path) -> None:
    whole, parts = (
        tensors(training.train(replace(SMALL, accumulate=n), tmp_path / str(n), log_every=1)) for n in (1, 4)
    )
    assert losses(tmp_path / "4") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert apart(parts, {name: value for name, value in whole.items() if name.startswith("model.")}) < 0.01


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_and_falls(decay: str) -> None:
    config = Config(steps=1000, warmup=100, decay=decay, lr=2.0)
    rates = [config.rate(step) for step in range(1000)]
    assert rates[0] == 0.02
    assert rates[99] == 2.0
    assert rates[550] == {"constant": 2.0, "linear": 1.0, "cosine": pytest.approx(1.0)}[decay]
    assert np.all(np.diff(rates[100:]) <= 0)
    assert rates[-1] == pytest.approx({"constant": 2.0, "linear": 2 / 900, "cosine": 1 - np.cos(np.pi / 900)}[decay])


# Stopped and resumed


@pytest.mark.parametrize(
    "changes", [[], ["network.dropout=0.2", "coupling=ot", "shift=1", "flip=true", "accumulate=2"]]
)
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path: Path, changes: list[str]) -> None:
    config = override(SMALL, changes)
    whole = training.train(config, tmp_path / "whole", save_every=5)
    stops = []

    def stop(trained: checkpoints.Trained) -> training.Glance:
        stops.append(trained)
        raise RuntimeError("stopped")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="stopped"):
            training.train(config, tmp_path / "cut", save_every=5, look=stop)
    assert len(stops) == 2
    assert same(training.train(config, tmp_path / "cut", save_every=5), whole)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_killed_again_and_again_it_gives_the_same_numbers(tmp_path: Path) -> None:
    """SIGKILL at any moment, in the middle of a write too, six times; a run that was never killed is the judge."""
    whole = training.train(replace(SMALL, steps=40), tmp_path / "whole", save_every=1)
    rng, folder = np.random.default_rng(0), tmp_path / "cut"
    folder.mkdir()
    order = [*command(folder, steps=40), "--save-every", "1"]
    for _ in range(6):
        before = checkpoints.last_good(folder)[0]
        run = subprocess.Popen(order, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while checkpoints.last_good(folder)[0] == before:
            assert run.poll() is None
        time.sleep(rng.uniform(0, 0.1))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    assert checkpoints.last_good(folder)[0] != checkpoints.path_of(folder, 40)
    done = subprocess.run(order, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert same(folder / "step_00000040.safetensors", whole)


def test_ctrl_c_ends_with_a_state_and_a_sentence(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*command(tmp_path, steps=5000), "--save-every", "5000"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "log.csv").exists() or len((tmp_path / "log.csv").read_text().splitlines()) < 2:
        time.sleep(0.02)
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    step = int(re.search(r"stopped after step (\d+) of 5000; the same command goes on", said)[1])
    assert "Traceback" not in said
    assert checkpoints.last_good(tmp_path)[0] == checkpoints.path_of(tmp_path, step)


# What goes wrong


def test_a_damaged_state_is_named_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = training.train(SMALL, tmp_path / "whole", save_every=5)
    training.train(replace(SMALL, steps=10), tmp_path / "cut", save_every=5)
    (tmp_path / "cut" / "step_00000010.safetensors").write_bytes(b"\0" * 100)
    last = training.train(SMALL, tmp_path / "cut", save_every=5)
    assert "step_00000010.safetensors is cut or is no safetensors file" in capsys.readouterr().out
    assert last.name == whole.name


@pytest.mark.parametrize("length", [0, 7, 100, 5000, -1])
def test_a_truncated_state_is_never_loaded(tmp_path: Path, length: int) -> None:
    path = training.train(replace(SMALL, steps=2), tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(checkpoints.CheckpointError, match="is cut"):
        checkpoints.load_model(path)
    assert checkpoints.last_good(tmp_path)[0] is None


def test_another_run_in_the_folder_is_an_error_that_names_the_difference(tmp_path: Path) -> None:
    path = training.train(replace(SMALL, steps=2), tmp_path)
    kept = path.read_bytes()
    with pytest.raises(
        checkpoints.CheckpointError, match=r"batch is 16 there and 32 here, network\.width is 8 there and 16"
    ):
        training.train(override(SMALL, ["batch=32", "network.width=16"]), tmp_path)
    assert path.read_bytes() == kept


def test_a_finished_run_is_left_as_it_is_and_can_be_made_longer(tmp_path: Path) -> None:
    path = training.train(replace(SMALL, steps=4), tmp_path)
    changed = path.stat().st_mtime_ns
    assert training.train(replace(SMALL, steps=4), tmp_path) == path
    assert path.stat().st_mtime_ns == changed
    assert training.train(replace(SMALL, steps=6), tmp_path).name == "step_00000006.safetensors"


def test_only_the_last_states_are_kept(tmp_path: Path) -> None:
    training.train(SMALL, tmp_path, save_every=2, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == [
        "step_00000010.safetensors",
        "step_00000012.safetensors",
    ]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "lr=1e30", "clip=1e30"), env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: the loss is (nan|inf) at step \d+\. Lower lr .* state is none yet", done.stderr)
    assert not list(tmp_path.glob("step_*"))


@pytest.mark.parametrize("limit", [100_000, 300, 20])  # a state, the log for TensorBoard, a table do not fit
def test_a_full_disk_leaves_the_last_good_state(tmp_path: Path, limit: int) -> None:
    """The system refuses the file, as it does where the disk is full; the state before it stays whole."""
    first = training.train(replace(SMALL, steps=2), tmp_path, log_every=1)
    kept = first.read_bytes()
    assert len(kept) > 100_000
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from ddpm_lite.cli import main; sys.argv = sys.argv[1:]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command(tmp_path)[2:]], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "could not be written" in done.stderr
    assert f"goes on from {first}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: a file of the run")
    assert done.stderr.count("Traceback") == (limit == 300)  # of TensorBoard's own thread
    assert [path.name for path in tmp_path.glob("*step_*")] == [first.name]
    assert first.read_bytes() == kept


def test_too_large_a_batch_says_what_to_change(tmp_path: Path) -> None:
    """The process may use 4 GB of addresses; the step would need about 16."""
    program = (
        "import resource, sys; from ddpm_lite.cli import main; import ddpm_lite.images.training, accelerate;"
        "from pathlib import Path;"
        "used = next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith('VmSize'));"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30));"
        "sys.argv = sys.argv[1:]; main()"
    )
    order = command(tmp_path, "batch=200000")[2:]
    done = subprocess.run([sys.executable, "-c", program, *order], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "does not fit into memory: try accumulate=2, or a smaller batch" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["path=vpp"], "path must be one of vp, cosine, ve, edm, rectified; got 'vpp'"),
        (["width=3"], "there is no width in a run"),
        (["network.wide=3"], "there is no wide in a unet"),
        (["network.name=dot"], "network.name must be one of unet, dit"),
        (["steps"], "write NAME=VALUE"),
        (["steps=0"], "steps must be at least 1"),
        (["lr=0"], "lr, clip and sigma_data must be positive"),
        (["drop=2"], "drop must be in"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(SMALL, changes)


def test_a_file_says_what_differs_from_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('data = "fashion"\nlr = 2e-4\n[network]\nname = "unet"\nmultipliers = [1, 2, 2]\n')
    config = read(str(tmp_path / "a.toml"))
    assert (config.data, config.lr, config.network.multipliers) == ("fashion", 2e-4, (1, 2, 2))
    (tmp_path / "b.json").write_text(json.dumps(to_dict(config)))
    assert read(str(tmp_path / "b.json")) == config
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ValueError, match=r"b\.json cannot be read"):
        read(str(tmp_path / "b.json"))
    with pytest.raises(ValueError, match="no preset and no file 'fashio'"):
        read("fashio")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_file(name: str) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(PRESETS[name])))) == PRESETS[name]


def test_the_transformer_trains_as_well(tmp_path: Path) -> None:
    config = from_dict({"network": {"name": "dit", "width": 16, "heads": 2, "classes": 10}, "batch": 16, "steps": 4})
    net, read_back, form = checkpoints.load_model(training.train(config, tmp_path))
    assert type(net.net).__name__ == "DiT"
    assert read_back == config
    assert form == ((1, 8, 8), 17, tuple("0123456789"))


def test_a_batch_that_cannot_be_dealt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch = 16 cannot be dealt to 1 processes in 3 parts each"):
        training.train(replace(SMALL, accumulate=3), tmp_path)


# More processes


def launched(*order: str) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` with two processes that talk by gloo: ACCELERATE_USE_CPU keeps them off the GPUs."""
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes", "2"]
    settings = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
    done = [*launch, *settings, *order]
    return subprocess.run(done, env=environment(), capture_output=True, text=True, timeout=300)


def test_two_processes_learn_what_one_does_from_the_whole_batch(tmp_path: Path) -> None:
    done = launched(*command(tmp_path / "two", "accumulate=2")[2:], "--log-every", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    one = training.train(SMALL, tmp_path / "one", log_every=1)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    whole = {name: value for name, value in tensors(one).items() if name.startswith("model.")}
    assert apart(tensors(tmp_path / "two" / one.name), whole) < 0.01


def test_two_processes_are_two(tmp_path: Path) -> None:
    done = launched(*command(tmp_path, "accumulate=16")[2:])
    assert done.returncode != 0
    assert "batch = 16 cannot be dealt to 2 processes in 16 parts each" in done.stderr
