"""scripts/job.yaml says what can be run, and scripts/run.sh runs it."""

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from source_data.serve import PhotoServer
from tarloom.cli.images import Images
from tarloom.cli.parse import parse
from tarloom.cli.process import with_stages
from tests.process.images.runs_of_images import url_list, words_for
from tests.source_tree import ROOT

RUN = str(ROOT / "scripts/run.sh")
JOB_CONFIG = {
    *("name", "image_uri", "containerfile", "compute_config", "working_dir", "excludes", "requirements", "env_vars"),
    *("py_modules", "cloud", "project", "ray_version", "entrypoint", "max_retries", "timeout_s", "tags"),
}
"""The fields of Anyscale's JobConfig (docs.anyscale.com/reference/job-api)."""


@pytest.fixture(scope="module")
def job() -> dict:
    return yaml.safe_load((ROOT / "scripts/job.yaml").read_text())


def test_the_job_has_the_fields_that_anyscale_knows(job):
    assert {"name", "entrypoint", "working_dir", "max_retries"} <= job.keys() <= JOB_CONFIG
    assert all(isinstance(value, str) for value in job["env_vars"].values())


def test_the_jobs_command_is_one_that_the_program_takes(job):
    python, program, *words = shlex.split(job["entrypoint"])
    assert (python, program) == ("python", "process/process_images.py")
    options = parse(with_stages(Images, words, {}), words, prog="process_images.py", defaults={})
    assert options.source.source == "hf://datasets/laion/relaion2B-en-research-safe"
    assert options.chosen["caption"].model == "Qwen/Qwen2.5-VL-3B-Instruct"
    resources = job["compute_config"]["max_resources"]
    assert options.run_on.num_workers * options.run_on.gpus_per_worker == resources["GPU"]
    assert options.run_options.download_workers / 2 + options.run_on.num_workers <= resources["CPU"]


def test_the_job_requires_what_the_package_does(job):
    module = ast.parse((ROOT / "setup.py").read_text())
    found = {ast.unparse(node.targets[0]): node.value for node in module.body if isinstance(node, ast.Assign)}
    extras = ast.literal_eval(found["EXTRAS"])
    (call,) = (node for node in ast.walk(module) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    always = ast.literal_eval({each.arg: each.value for each in call.keywords}["install_requires"])
    assert job["requirements"] == [*always, *extras["ray"], *extras["vllm"], *extras["hf"]]


def test_without_a_cluster_it_runs_here(tmp_path):
    """Addressed from where the user is: paths on the command line are theirs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    with PhotoServer() as server:
        url_list(tmp_path / "urls.csv", server.url, good=10)
        done = subprocess.run(
            [RUN, *words_for("urls.csv", "out")],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["successes"] == 10


def test_it_says_how_it_is_used():
    done = subprocess.run([RUN, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "OPTIONS of process_images.py" in done.stdout


SUBMITTER = """#!/bin/bash
printf '%s\\n' "$@" >{said}
while [ $# -gt 1 ] && [ "$1" != {option} ]; do shift; done
ls -lL "$2" >{file}.mode
cat "$2" >{file}
"""
"""Stands for `ray` or `anyscale`: keeps what it was told."""


@pytest.mark.parametrize(("command", "option"), [("ray", "--runtime-env"), ("anyscale", "-f")])
def test_secrets_are_handed_on_but_not_on_a_command_line(job, tmp_path, command, option):
    submitter = tmp_path / command
    submitter.write_text(SUBMITTER.format(said=tmp_path / "said", file=tmp_path / "file", option=option))
    submitter.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PATH": os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"]),
        "PYTHON": sys.executable,
        "TMPDIR": str(scratch),
        "HF_TOKEN": "hf_1: {2}",
    }
    if command == "ray":
        environment["RAY_ADDRESS"] = "http://head:8265"
    subprocess.run([RUN], env=environment, check=True)
    said = (tmp_path / "said").read_text()
    assert "hf_1" not in said
    assert said.splitlines()[-2:] == shlex.split(job["entrypoint"])[-2:]
    handed = yaml.safe_load((tmp_path / "file").read_text())
    assert handed["env_vars"] == job["env_vars"] | handed["env_vars"] | {"HF_TOKEN": "hf_1: {2}"}
    assert command == "ray" or handed == job | {"env_vars": handed["env_vars"]}
    assert "rw-------" in (tmp_path / "file.mode").read_text()
    assert list(scratch.iterdir()) == []


def test_options_that_cannot_be_read_are_not_taken_for_none(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 4\n: >{tmp_path}/ran\n')
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([RUN], env=environment | {"PYTHON": str(python), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 4
    assert not (tmp_path / "ran").exists()
