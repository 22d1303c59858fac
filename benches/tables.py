#!/usr/bin/env python3
"""Tables that make many files or many columns: `hydrant-sink` beside DuckDB's COPY, in one run; prints a Markdown table.

    pip install duckdb
    cargo build --release --workspace --bins
    python3 benches/tables.py target/release

`hydrant-sink` reads a stream and commits exactly once; DuckDB reads the same records as lines of JSON with a schema that
it is given. Start and end of each process are in the numbers.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

WIDE_COLUMNS = 2000


def many_shards(n):
    record = {"device": f"d{n % 4096}", "bucket": n % 256, "part": f"p{n // 256 % 8}"}
    for column in range(57):
        value = [n * 1000 + column, n / 7 + column, f"state-{n % 5}", f"text-{n * 31}-{column}"][column % 4]
        record[f"column{column}"] = value
    return record


def many_partitions(n):
    return {"device": f"d{n % 997}", "region": f"r{n % 2000}", "n": n, "value": n / 7, "state": f"s{n % 5}"}


def wide(n):
    if n == 0:
        return {f"k{key}": 0.5 for key in range(WIDE_COLUMNS)}
    return {f"k{(n * 7919 + key * 104729) % WIDE_COLUMNS}": n / 8 for key in range(5)}


# Name, record, how many, shards, partition of the sink, partition of DuckDB, its columns.
KINDS = {"int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR"}
JOBS = [
    ("256 shards x 8 partitions, 60 columns, 20 rows a file", many_shards, 40_960, 256, ["part"], "bucket, part"),
    ("2,000 partitions, 5 columns, 100 rows a file", many_partitions, 200_000, 1, ["region"], "region"),
    ("2,000 columns, 5 of them in a row", wide, 20_000, 1, [], None),
]


def measured(command, work):
    """Seconds of wall clock and of processor, and MiB, of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def copy(job, work):
    """Runs in a process of its own."""
    import duckdb

    _, make, _, _, _, partition = JOBS[job]
    columns = {name: KINDS[type(value).__name__] for name, value in make(0).items()}
    by = f", PARTITION_BY ({partition}), WRITE_PARTITION_COLUMNS true" if partition else ""
    target = f"{work}/duckdb" if partition else f"{work}/duckdb.parquet"
    database = duckdb.connect()
    database.execute("SET threads = 2; SET memory_limit = '2GB'")
    database.execute(
        f"COPY (SELECT * FROM read_json('{work}/lines.ndjson', format='newline_delimited', columns={columns})) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1{by})")


def files_and_bytes(path):
    files = [path] if path.is_file() else list(path.rglob("*.parquet"))
    return len(files), sum(file.stat().st_size for file in files)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=2, help="the one with the least processor time is shown")
    parser.add_argument("--copy", nargs=2)
    options = parser.parse_args()
    if options.copy:
        return copy(int(options.copy[0]), options.copy[1])
    bin = options.bin.resolve()
    print("| table | who | s | CPU s | CPU ms a file | files | MB | MiB resident |\n|---|---|---|---|---|---|---|---|")
    for number, (name, make, count, shards, partition, _) in enumerate(JOBS):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            with open(work / "lines.ndjson", "w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(make(n)) + "\n" for n in range(count))
            declared = "".join(f'k{n} = "DOUBLE"\n' for n in range(WIDE_COLUMNS)) if make is wide else ""
            (work / "sink.toml").write_text(
                f'memory = "256MiB"\n[sink]\npartition = {json.dumps(partition)}\n[sink.columns]\n{declared}')
            key = [] if make is wide else ["--key", "device"]
            measured([bin / "hydrant-producer", "--to", "local:raw", "--input", "lines.ndjson", "--shards", shards, *key], work)

            def sink():
                shutil.rmtree(work / "lake", ignore_errors=True)
                return measured([bin / "hydrant-sink", "--config", "sink.toml", "--from", "local:raw", "--to", "file:lake",
                                 "--app", f"app{time.time_ns()}", "--exit-at-end", "--idle", "50ms"], work), work / "lake/events"

            def duckdb():
                shutil.rmtree(work / "duckdb", ignore_errors=True)
                made = measured(["python3", Path(__file__).resolve(), "--copy", number, work], work)
                return made, work / "duckdb" if (work / "duckdb").exists() else work / "duckdb.parquet"

            for who, job in [("hydrant-sink", sink), ("DuckDB COPY", duckdb)]:
                (wall, cpu, rss), made = min((job() for _ in range(options.rounds)), key=lambda run: run[0][1])
                files, size = files_and_bytes(made)
                print(f"| {name} | {who} | {wall:.2f} | {cpu:.2f} | {cpu * 1000 / files:.2f} | {files} | {size / 1e6:.1f} | {rss:.0f} |", flush=True)


if __name__ == "__main__":
    main()
