"""What is handed to Docker and Kubernetes: held against the API's own schema, and against our own command line."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tarloom.cli.batch import Batch
from tarloom.cli.config_file import expanded
from tarloom.cli.parse import parse
from tests.source_tree import ROOT

DEPLOY = ROOT / "deploy"
SCHEMA = json.loads(Path(__file__).with_name("kubernetes_1_37.json").read_text())
KINDS = {
    "Job": "io.k8s.api.batch.v1.Job",
    "CronJob": "io.k8s.api.batch.v1.CronJob",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
}
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def check(document):
    """Raises jsonschema.ValidationError where the API would refuse it: a field too many, or of another kind."""
    schema = {"$ref": f"#/definitions/{KINDS[document['kind']]}", "definitions": SCHEMA["definitions"]}
    jsonschema.Draft7Validator(schema).validate(document)
    assert document["apiVersion"] in ("v1", "batch/v1")


def manifest(name):
    (document,) = documents(DEPLOY / "kubernetes" / f"{name}.yaml")
    return document


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_the_api_takes(path):
    for document in documents(path):
        check(document)


def test_what_the_api_would_refuse_is_seen():
    for change in (
        lambda job: job["spec"].update(backofLimit=1),
        lambda job: job["spec"].update(backoffLimit="six"),
        lambda job: job["spec"].pop("template"),
        lambda job: job["spec"]["template"]["spec"]["containers"][0].pop("name"),
        lambda job: job.update(apiVersion="batch/v2"),
    ):
        broken = copy.deepcopy(manifest("job"))
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            check(broken)


def test_job_and_cron_job_run_the_same():
    assert manifest("cronjob")["spec"]["jobTemplate"]["spec"] == manifest("job")["spec"]


def test_a_wrong_option_fails_the_job_at_once_and_a_pod_that_dies_is_replaced():
    spec = manifest("job")["spec"]
    usage, disruption = spec["podFailurePolicy"]["rules"]
    assert (usage["action"], usage["onExitCodes"]["values"]) == ("FailJob", [2])
    assert (disruption["action"], disruption["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # what the policy needs
    assert spec["backoffLimit"] > 0


def test_the_options_in_them_are_options_of_the_program(tmp_path):
    options, job = manifest("options"), manifest("job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/config"]["configMap"]["name"] == options["metadata"]["name"]
    for name, text in options["data"].items():
        (tmp_path / name).write_text(text)
    words = [word.replace("/config", str(tmp_path)) for word in container["args"]]
    found = parse(Batch, expanded(Batch, words), prog="batch_service.py", defaults={})
    assert found.batch.input_dir == "s3://my-bucket/laion"
    assert found.json


def test_the_image_holds_what_it_runs():
    """And the container that the manifests describe may write where it does."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    copied = [source for word, *rest in lines if word == "COPY" for source in rest[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(kept) == sorted(copied)
    entry = json.loads(" ".join(next(rest for word, *rest in lines if word == "ENTRYPOINT")))
    program = ROOT / entry[1].removeprefix("/app/")
    asked = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True)
    assert asked.returncode == 0
    assert "--model-directory" in asked.stdout
    user = next(rest[0] for word, *rest in lines if word == "USER")
    assert manifest("job")["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == int(user)
    extras = re.search(r"EXTRAS=(\S+)", text)[1].split(",")
    assert all(f'"{extra}": [' in (ROOT / "setup.py").read_text() for extra in extras)
