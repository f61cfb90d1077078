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
