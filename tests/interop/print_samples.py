"""Run by a webdataset of any version: print each sample of the tars given, its members by their SHA-256, as JSON."""

import hashlib
import json
import sys

import webdataset

for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False):
    members = {name: hashlib.sha256(data).hexdigest() for name, data in sample.items() if not name.startswith("__")}
    print(json.dumps([sample["__key__"], members], sort_keys=True))
