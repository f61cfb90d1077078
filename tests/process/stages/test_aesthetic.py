"""A linear head: its file is read as it was written, or refused with what is wrong with it."""

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from tarloom.errors import UsageError
from tarloom.process.batch import Batch, Decoder
from tarloom.process.stages.aesthetic import AestheticStage, load_head

DIM = 6
RNG = np.random.default_rng(0)
ONE = {"weight": RNG.normal(size=(1, DIM)).astype(np.float32), "bias": np.array([0.5], np.float32)}
SEVERAL = {
    f"layers.{number}.{part}": RNG.normal(size=(outputs, inputs) if part == "weight" else outputs).astype(np.float32)
    for number, (outputs, inputs) in {0: (5, DIM), 2: (4, 5), 10: (1, 4)}.items()
    for part in ("weight", "bias")
}


def written(path, arrays, kind="npz"):
    file = path / f"head.{kind}"
    np.savez(file, **arrays) if kind == "npz" else save_file(arrays, file)
    return str(file)


def batch(vectors, missing=()):
    mask = np.isin(np.arange(len(vectors)), missing)
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(vectors)), DIM, mask=pa.array(mask))
    rows = pa.RecordBatch.from_pydict({"__key__": [str(n) for n in range(len(vectors))], "clip.embedding": column})
    return Batch(rows, Decoder())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("arrays", [ONE, SEVERAL], ids=["one layer", "several"])
def test_scores_are_those_of_the_layers_one_after_the_other(tmp_path, kind, arrays):
    vectors = RNG.normal(size=(20, DIM)).astype(np.float16)
    wanted = vectors.astype(np.float64)
    for name in [name for name in arrays if name.endswith("weight")]:
        wanted = wanted @ arrays[name].T + arrays[name.replace("weight", "bias")]
    rows = AestheticStage(weights=written(tmp_path, arrays, kind)).open()(batch(vectors, missing=[3])).to_pylist()
    assert [row["score"] for n, row in enumerate(rows) if n != 3] == pytest.approx(np.delete(wanted[:, 0], 3), rel=1e-5)
    assert (rows[3]["score"], rows[3]["status"], rows[3]["error"]) == (None, "skipped", "no_embedding")


def test_weights_may_be_bfloat16(tmp_path):
    import torch
    from safetensors.torch import save_file as save

    save({"weight": torch.arange(DIM, dtype=torch.bfloat16)}, tmp_path / "head.safetensors")
    weights, bias = load_head(str(tmp_path / "head.safetensors"))
    assert (weights.tolist(), bias) == (list(range(DIM)), 0.0)


def test_a_layer_may_be_without_a_bias_and_of_one_dimension(tmp_path):
    weights, bias = load_head(written(tmp_path, {"weight": np.arange(DIM)}))
    assert (weights.tolist(), bias) == (list(range(DIM)), 0.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, r"no linear head with one output.*other \(3,\)"),
        ({"weight": np.zeros((2, DIM))}, "no linear head with one output"),
        ({"0.weight": np.zeros((5, DIM)), "1.weight": np.zeros((1, 4))}, "no linear head with one output"),
        ({"weight": np.zeros((1, DIM)), "bias": np.zeros(3)}, "no linear head with one output"),
        ({"weight": np.zeros((1, 2, DIM, 2))}, "no linear head with one output"),
    ],
)
def test_weights_that_are_no_head_are_a_usage_error(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        AestheticStage(weights=written(tmp_path, arrays)).check()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.npz", b"no zip", "cannot be read"),
        ("a.safetensors", b"\0" * 20, "cannot be read"),
        ("a.pth", b"", "convert others"),
    ],
)
def test_files_that_cannot_be_read_are_a_usage_error(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        AestheticStage(weights=str(tmp_path / name)).check()
    with pytest.raises(UsageError, match="cannot be read"):
        AestheticStage(weights=str(tmp_path / "nowhere.npz")).check()


def test_pickled_arrays_are_not_loaded(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        AestheticStage(weights=written(tmp_path, {"weight": np.array([{}], object)})).check()


def test_another_models_vectors_and_other_columns_are_a_usage_error(tmp_path):
    wrong = AestheticStage(weights=written(tmp_path, {"weight": np.zeros((1, DIM + 1))}))
    with pytest.raises(UsageError, match=r"for vectors of 7 dimensions, but those of clip\.embedding have 6"):
        wrong.open()(batch(np.zeros((2, DIM), np.float16)))
    keys = AestheticStage(weights=written(tmp_path, ONE), embedding="__key__")
    with pytest.raises(UsageError, match="__key__: a column of string, not of vectors"):
        keys.open()(batch(np.zeros((2, DIM), np.float16)))
