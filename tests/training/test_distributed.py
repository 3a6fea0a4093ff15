"""Two machines, played by two launchers over loopback: the same losses as one process, a clear end when one dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from brain_mri.errors import LOST_PROCESS_EXIT_CODE, ConfigError, run_command
from brain_mri.utils import distributed
from brain_mri.utils.distributed import join_launch

_ROOT = Path(__file__).parents[2]
_LAUNCHES = sorted((_ROOT / "configs" / "accelerate").glob("*.yaml"))
_EPOCHS = 12
_BATCH = 8
# What differs between one process and two with half the batch each is left out: BatchNorm's statistics, which are those
# of a process's own images, and what is drawn at random for each process.
_MODEL = '{"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 32], "norm_layer": "groupnorm1"}'
_CALM = ("rotation", "horizontal_flip", "translation", "zoom", "brightness", "contrast", "guidance", "drop_rate")
_WORDS = ["train.py", "configs/quickstart.yaml", "--image_size", "32", "--model_args", _MODEL, "--precision", "fp32"]
_WORDS += ["--num_train_epochs", str(_EPOCHS), "--logging_steps", "1", "--disable_tqdm", "true"]
_WORDS += ["--preprocessing_workers", "1", *(word for name in _CALM for word in (f"--{name}", "0"))]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _kill(launcher: subprocess.Popen[bytes]) -> None:
    """SIGKILL a launcher and its worker, which stands in a session of its own and would outlive it."""
    try:
        family = psutil.Process(launcher.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in [psutil.Process(launcher.pid), *family]:
        process.send_signal(signal.SIGKILL)
    launcher.wait()


@contextmanager
def _two_nodes(logs: Path, *words: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two `torchrun --nnodes 2` with one process each, what they say going to `logs`/node_<rank>.log."""
    logs.mkdir()
    port = str(_free_port())
    launchers = []
    for rank in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
        command += ["--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", port, *words]
        with (logs / f"node_{rank}.log").open("wb") as log:
            launchers.append(
                subprocess.Popen(command, cwd=_ROOT, env=_environment(), stdout=log, stderr=subprocess.STDOUT)
            )
    try:
        yield launchers
    finally:
        for launcher in launchers:
            _kill(launcher)


def _run_two(logs: Path, *words: str) -> tuple[list[int], list[str]]:
    """Let two nodes end by themselves; their exit codes and what they said."""
    with _two_nodes(logs, *words) as launchers:
        codes = [launcher.wait(timeout=600) for launcher in launchers]
    return codes, [(logs / f"node_{rank}.log").read_text() for rank in (0, 1)]


def _losses(model: Path) -> list[float]:
    """The training loss of every step, then the validation loss of every epoch.

    The latter is eval_nll: Trainer's own eval_loss counts some images twice where the processes' shares are padded.
    """
    history = json.loads((model / "run.json").read_text())["log_history"]
    return [entry[key] for key in ("loss", "eval_nll") for entry in history if key in entry]


@pytest.fixture(scope="module")
def alone(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one process with the whole batch."""
    out = tmp_path_factory.mktemp("alone") / "model"
    words = ["--data_dir", str(phantoms), "--output_dir", str(out), "--per_device_train_batch_size", str(_BATCH)]
    done = subprocess.run(
        [sys.executable, *_WORDS, *words], cwd=_ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return _losses(out)


@pytest.fixture(scope="module")
def cut(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int | None, float, str]:
    """A run on two nodes of which the second is killed: the model folder, and how and when the first one ended."""
    folder = tmp_path_factory.mktemp("two_nodes")
    out = folder / "model"
    with _two_nodes(folder / "cut", *_words_of_a_node(phantoms, out)) as launchers:
        saved = "checkpoints/checkpoint-*/trainer_state.json"
        while len(list(out.glob(saved))) < 2 and all(launcher.poll() is None for launcher in launchers):
            time.sleep(0.02)
        _kill(launchers[1])
        killed = time.monotonic()
        try:
            code: int | None = launchers[0].wait(timeout=60)
        except subprocess.TimeoutExpired:
            code = None
        waited = time.monotonic() - killed
    return out, code, waited, (folder / "cut" / "node_0.log").read_text()


def _words_of_a_node(phantoms: Path, out: Path) -> list[str]:
    half = ["--per_device_train_batch_size", str(_BATCH // 2)]
    return [*_WORDS, *half, "--data_dir", str(phantoms), "--output_dir", str(out)]


@pytest.mark.slow
def test_the_death_of_one_node_ends_the_other_within_a_minute_and_says_so(
    cut: tuple[Path, int | None, float, str],
) -> None:
    out, code, waited, said = cut
    assert not (out / "run.json").exists(), "the run was over before the node was killed"
    assert code == 1, f"still running after {waited:.0f} s:\n{said}"
    assert "error: another process of this run is gone or can't be reached" in said
    assert "--resume_from_checkpoint" in said
    assert "brain_mri/training.py" not in said, "the traceback of train.py adds nothing"


@pytest.mark.slow
def test_two_nodes_have_the_losses_of_one_process_through_a_death_and_a_resume(
    cut: tuple[Path, int | None, float, str], alone: list[float], phantoms: Path, tmp_path: Path
) -> None:
    out, _, _, _ = cut
    codes, said = _run_two(tmp_path / "logs", *_words_of_a_node(phantoms, out), "--resume_from_checkpoint")
    assert codes == [0, 0], "\n".join(said)
    record = json.loads((out / "run.json").read_text())
    assert record["processes"] == 2 and record["training"]["per_device_train_batch_size"] == _BATCH // 2
    together = _losses(out)
    assert len(together) == len(alone) == record["global_step"] + _EPOCHS
    assert max(abs(a - b) for a, b in zip(alone, together, strict=True)) < 1e-4
    assert max(alone) - min(alone) > 0.05, "a curve that does not move would show nothing"
    steps_said = len(re.findall(r"^\{'loss'", said[0], flags=re.MULTILINE))
    assert 0 < steps_said < record["global_step"], "the second launch went on, it did not begin again"


_CHECKS = """
    import sys
    import torch
    from accelerate import PartialState
    from torch.distributed.fsdp import fully_shard
    from transformers import ViTConfig, ViTForImageClassification
    from brain_mri.errors import run_command
    from brain_mri.utils.distributed import join_launch, same_in_all_processes, whole

    def main():
        join_launch()
        rank = PartialState().process_index
        torch.manual_seed(0)
        shape = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
        model = ViTForImageClassification(ViTConfig(**shape))
        expected = {name: value.clone() for name, value in model.state_dict().items()}
        fully_shard(model)
        assert sum(p.to_local().numel() for p in model.parameters()) < model.num_parameters(), "nothing was dealt out"
        found = whole(model).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert same_in_all_processes("anywhere/checkpoint-8") == "anywhere/checkpoint-8"
        print(f"whole in process {rank}", flush=True)
        same_in_all_processes("here/checkpoint-8" if rank == 0 else None)

    run_command(main)
"""


@pytest.mark.slow
def test_dealt_out_weights_come_together_and_checkpoints_that_differ_stop_the_run(tmp_path: Path) -> None:
    script = tmp_path / "checks.py"
    script.write_text(textwrap.dedent(_CHECKS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(
        command, cwd=_ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 1
    assert "whole in process 0" in done.stdout and "whole in process 1" in done.stdout, done.stdout
    assert "do not find the same checkpoint (process 0: checkpoint-8, process 1: none)" in done.stdout, done.stdout


_GLOO = (
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:15504: Connection "
    "reset by peer. This is typically caused by a remote worker hanging or bugs in the application."
)


@pytest.mark.parametrize("error", [RuntimeError(_GLOO), torch.distributed.DistBackendError("NCCL error: remote gone")])
def test_a_lost_process_is_one_sentence(error: RuntimeError, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    said = capsys.readouterr().err
    assert ended.value.code == LOST_PROCESS_EXIT_CODE and said.count("\n") == 1
    reason = "Read error [127.0.0.1]:15504: Connection reset by peer" if "gloo" in str(error) else "remote gone"
    assert f"can't be reached ({reason}" in said or "NCCL error: remote gone" in said
    assert "pair.cc" not in said and "--resume_from_checkpoint" in said


def test_any_other_error_keeps_its_traceback() -> None:
    def main() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_command(main)


def test_there_is_a_launch_for_every_place() -> None:
    expected = {"cpu", "cpu_two_processes", "one_gpu", "eight_gpus", "two_nodes", "fsdp"}
    assert {path.stem for path in _LAUNCHES} == expected


@pytest.mark.parametrize("path", _LAUNCHES, ids=lambda p: p.stem)
def test_accelerate_takes_each_launch_and_its_first_lines_say_the_command(path: Path) -> None:
    config = load_config_from_file(str(path))  # raises on a key that accelerate does not know
    comment = "".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"accelerate launch --config_file configs/accelerate/{path.name}" in comment and "train.py" in comment
    nodes = ["--main_process_ip", "10.0.0.1", "--machine_rank", "1"] if path.stem == "two_nodes" else []
    words = launch_command_parser().parse_args(["--config_file", str(path), *nodes, "train.py"])
    args, _, _ = _validate_launch_command(words)
    assert args.num_processes == config.num_processes
    assert args.multi_gpu == (path.stem in {"cpu_two_processes", "eight_gpus", "two_nodes"})
    assert args.use_fsdp == (path.stem == "fsdp")
    unknown = [key for key in config.fsdp_config if not hasattr(words, key)]
    assert not unknown, f"accelerate launch has no option of the name {unknown}"
    if path.stem == "fsdp":
        assert args.fsdp_version == 2 and args.fsdp_state_dict_type == "FULL_STATE_DICT"
    if path.stem == "two_nodes":
        assert (args.num_machines, args.machine_rank, args.main_process_ip) == (2, 1, "10.0.0.1")


@pytest.mark.slow
def test_accelerate_starts_two_processes_on_the_cpu_with_its_file(tmp_path: Path) -> None:
    script = tmp_path / "who.py"
    script.write_text(
        "from brain_mri.utils.distributed import join_launch\njoin_launch()\nfrom accelerate import PartialState\n"
        "s = PartialState()\nprint(f'{s.process_index} of {s.num_processes} on {s.device.type}', flush=True)\n"
    )
    file = str(_ROOT / "configs" / "accelerate" / "cpu_two_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file, str(script)]
    done = subprocess.run(
        command, cwd=_ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 of 2 on cpu" in done.stdout and "1 of 2 on cpu" in done.stdout


def test_a_launch_by_mpirun_is_not_taken_for_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:

    joined: list[bool] = []
    monkeypatch.setattr(distributed, "PartialState", lambda cpu: joined.append(cpu))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ConfigError, match=r"cpu_two_processes\.yaml"):
        join_launch()
    monkeypatch.setenv("PMI_SIZE", "2")
    join_launch()
    assert joined == [True]
