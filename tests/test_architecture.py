"""The house stands as drawn: imports go downwards, frameworks stay in their adapters, no error is swallowed."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.source_tree import ROOT, Import, Source, library, programs

FLOORS = ("errors", "format", "engines", "read create", "process", "generate", "report", "cli", "__main__")
"""From the ground up. A module imports its own floor and lower ones; packages of one floor do not know each other."""
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages.split()}

FRAMEWORKS = {
    "aiohttp": "create/web/answers.py create/web/connections.py create/web/lookups.py create/web/transport.py "
    "process/caption/with_endpoint.py",
    "ray": "engines/ray.py engines/ray_check.py engines/ray_data.py engines/ray_datasets.py engines/ray_rows.py "
    "engines/ray_session.py "
    "read/ray/actors.py read/ray/data.py read/ray/filters.py read/ray/sidecars.py read/ray/sink.py read/ray/tensors.py "
    "read/ray/webdataset.py process/caption/with_ray_llm.py generate/tables/with_ray.py "
    "process/curate/with_ray.py",
    "pyspark": "engines/spark.py engines/spark_session.py "
    "read/spark/frames.py read/spark/source.py read/spark/table.py read/spark/types.py "
    "process/curate/with_spark.py",
    "torch": "read/feed/torch.py read/feed/torch_blocks.py read/with_torch.py process/embed/jpegs.py "
    "process/embed/tensors.py process/embed/vectors.py process/paint/with_diffusers.py",
    "open_clip": "process/embed/with_open_clip.py",
    "transformers": "process/embed/with_transformers.py process/caption/with_vllm.py process/caption/vllm_inputs.py "
    "process/paint/with_diffusers.py",
    "diffusers": "process/paint/pipelines.py process/paint/with_diffusers.py",
    "vllm": "process/caption/with_vllm.py process/caption/vllm_inputs.py process/caption/engine_process.py "
    "process/caption/with_ray_llm.py",
    "webdataset": "read/with_webdataset.py",
    "huggingface_hub": "create/sources/hub.py process/models.py",
    "cv2": "create/pictures/encode.py create/pictures/scale.py create/pictures/blur.py create/pictures/for_jpeg.py "
    "read/feed/batches/fitting.py",
    "img2dataset": "create/img2dataset/downloader.py",
    "simplejpeg": "format/pictures.py",
    "duckdb": "read/columns/evaluate.py read/columns/query.py read/columns/sql.py read/columns/values.py "
    "read/columns/where.py process/curate/kernel.py",
}
"""The files below tarloom/ that may import each framework: its adapters."""
ON_ADAPTERS = (
    "read/samples/decode.py",
    "create/pictures/images.py",
    "create/pictures/decode.py",
    "create/pictures/colour.py",
    "process/curate/aggregates.py",
    "process/curate/scope.py",
    "process/curate/statement.py",
    "process/curate/work.py",
    "process/curate/job.py",
)
"""They stand on format/pictures.py or on duckdb's adapters, and are imported as late."""
LOOPS = {"read/read_with_torch.py": {"torch"}}
"""Programs to copy, and the frameworks that they show how to use."""
ADAPTERS = {f"tarloom/{file}" for files in (*FRAMEWORKS.values(), " ".join(ON_ADAPTERS)) for file in files.split()}
NEVER_LOADED_BY_IMPORTING = {
    "ray",
    "pyspark",
    "torch",
    "transformers",
    "diffusers",
    "vllm",
    "webdataset",
    "cv2",
    "simplejpeg",
    "img2dataset",
    "duckdb",
}

LIBRARY = library()
PROGRAMS = programs()
ALL = LIBRARY + PROGRAMS


def each_file(files: list[Source]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", files, ids=lambda source: source.name)


def package_of(module: str) -> str | None:
    """The package of tarloom that a module is in; None for other modules and for tarloom itself."""
    top, _, rest = module.partition(".")
    package = rest.partition(".")[0]
    return package if top == "tarloom" and package in FLOOR else None


def wrong_ways(source: Source) -> Iterator[str]:
    """Imports of this file that go up, or next door."""
    here = package_of(source.module)
    for found in source.imports:
        there = package_of(found.module)
        if here and there and here != there and FLOOR[there] >= FLOOR[here]:
            yield f"{source.name}:{found.line}: {here} imports {there}"


def test_every_package_has_its_floor():
    inside = {source.module.split(".")[1] for source in LIBRARY if source.module.count(".")}
    assert inside <= set(FLOOR)


@each_file(LIBRARY)
def test_imports_go_downwards(source):
    assert list(wrong_ways(source)) == []


def test_a_wrong_way_would_be_seen(tmp_path):
    class Pretended(Source):
        module = "tarloom.create.job"
        name = "create/job.py"
        imports = (
            Import("tarloom.read.samples.batches", 1, True),
            Import("tarloom.cli", 2, False),
            Import("tarloom.errors", 3, False),
        )

    assert list(wrong_ways(Pretended(tmp_path))) == [
        "create/job.py:1: create imports read",
        "create/job.py:2: create imports cli",
    ]


@each_file(LIBRARY)
def test_the_library_does_not_know_its_surroundings(source):
    tops = {found.module.partition(".")[0] for found in source.imports}
    assert tops.isdisjoint({"tests", "benchmarks", "source_data", "scripts", "create", "process", "read"})


@each_file(PROGRAMS)
def test_programs_know_only_the_command_line(source):
    known = {"tarloom.cli", "tarloom.cli.run"}
    if source.name in LOOPS:
        known |= {"tarloom", "tarloom.errors", "tarloom.errors.TarloomError", "tarloom.errors.UsageError"}
    assert {found.module for found in source.imports if found.module.startswith("tarloom")} <= known


@each_file(ALL)
def test_frameworks_are_imported_by_their_adapters_alone(source):
    for found in source.imports:
        framework = found.module.partition(".")[0]
        allowed = FRAMEWORKS.get(framework)
        if allowed is not None and framework not in LOOPS.get(source.name, ()):
            assert source.name.removeprefix("tarloom/") in allowed.split(), (
                f"{source.name}:{found.line}: {found.module}"
            )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_adapter_is_one(framework):
    for file in FRAMEWORKS[framework].split():
        adapter = Source(ROOT / "tarloom" / file)
        assert framework in {found.module.partition(".")[0] for found in adapter.imports}, file


def modules_loaded_by(statement: str) -> tuple[set[str], float]:
    """Top-level modules that are loaded when a fresh Python has run `statement`, and the seconds it took."""
    code = (
        f"import time; started = time.perf_counter(); {statement}; took = time.perf_counter() - started\n"
        "import json, sys; print(json.dumps([sorted({name.partition('.')[0] for name in sys.modules}), took]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, took = json.loads(done.stdout.splitlines()[-1])
    return set(modules), took


def test_importing_tarloom_loads_no_framework():
    modules, took = modules_loaded_by("import tarloom")
    print(f"import tarloom took {took * 1000:.0f} ms")
    assert modules & NEVER_LOADED_BY_IMPORTING == set()


def test_opening_a_dataset_loads_no_framework():
    modules, took = modules_loaded_by("import tarloom; tarloom.open")
    print(f"import tarloom; tarloom.open took {took * 1000:.0f} ms")
    assert modules & NEVER_LOADED_BY_IMPORTING == set()


def test_modules_that_are_no_adapters_import_adapters_when_needed():
    light = [
        source.module for source in LIBRARY if source.name not in ADAPTERS and not source.name.endswith("__main__.py")
    ]
    modules, _ = modules_loaded_by(f"import {', '.join(light)}")
    assert modules & NEVER_LOADED_BY_IMPORTING == set()


@each_file(ALL)
def test_every_function_is_annotated(source):
    for function in source.functions():
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        bare = [a.arg for a in named if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
        where = f"{source.name}:{function.lineno}: {function.name}"
        assert bare == [], where
        assert function.returns is not None, where


@each_file(ALL)
def test_no_error_is_swallowed(source):
    broad = {"Exception", "BaseException"}
    for node in ast.walk(source.tree):
        where = f"{source.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            caught = {ast.unparse(kind) for kind in _kinds(node.type)}
            assert node.type is not None, f"{where}: a bare except"
            assert not (caught & broad and all(_does_nothing(line) for line in node.body)), where
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            assert broad.isdisjoint(ast.unparse(argument) for argument in node.args), where


def _kinds(node: ast.expr | None) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node] if node else []


def _does_nothing(line: ast.stmt) -> bool:
    return isinstance(line, ast.Pass | ast.Continue) or (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    )


@each_file(LIBRARY)
def test_the_library_prints_nothing_and_pickles_no_data(source):
    called = {ast.unparse(node.func) for node in ast.walk(source.tree) if isinstance(node, ast.Call)}
    assert called.isdisjoint({"print", "pickle.dumps", "pickle.dump", "pickle.loads", "pickle.load", "eval", "exec"})
