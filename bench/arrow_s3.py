"""Apache Arrow's side of the benchmark of stores: the first line says where and what; each further line asks for one timed scan."""

import json
import sys
import time

import pyarrow.dataset
import pyarrow.fs

place = json.loads(sys.stdin.readline())
store = pyarrow.fs.S3FileSystem(
    access_key=place["key"],
    secret_key=place["secret"],
    endpoint_override=place["endpoint"],
    region=place["region"],
    tls_ca_file_path=place["ca"],
)
for _ in sys.stdin:
    start = time.perf_counter()
    dataset = pyarrow.dataset.dataset(place["object"], filesystem=store, format=place["format"])
    rows = sum(batch.num_rows for batch in dataset.to_batches())
    print(rows, time.perf_counter() - start, flush=True)
