"""Run by a webdataset of any version: for each tar given, its samples as [key, members] by their bytes in hexadecimal,
and how it ended: one line of JSON each."""

import json
import sys

import webdataset

for path in sys.argv[1:]:
    samples, error = [], None
    try:
        for sample in webdataset.WebDataset([path], shardshuffle=False, empty_check=False):
            members = {name: data.hex() for name, data in sample.items() if not name.startswith("__")}
            samples.append([sample["__key__"], members])
    except Exception as raised:
        error = type(raised).__name__
    print(json.dumps([samples, error]))
