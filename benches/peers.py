#!/usr/bin/env python3
"""The same job done by Hydrant and by others, on the same records, in one run; prints a Markdown table.

    pip install duckdb polars presidio-analyzer
    cargo build --release --workspace --bins
    python3 benches/peers.py target/release [--records 1000000]

The job: JSON lines in a file -> personal data stripped -> Parquet (zstd-1). What each of them does for it differs, so
the table says so: Hydrant writes two synced streams on the way, scans every key and value with all its detectors, and
lands each record exactly once; DuckDB and Polars apply four regular expressions to the text columns of a known schema;
Presidio only searches, with its pattern recognisers.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATTERNS = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    "ip": r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
    "card": r"\b(?:\d[ -]?){15}\d\b",
    "phone": r"\+\d[\d ()-]{7,16}\d",
}


def timed(work):
    """Runs `work` and returns seconds of wall clock and of processor time of this process and its children."""
    cpu = sum(os.times()[:4])
    start = time.perf_counter()
    work()
    return time.perf_counter() - start, sum(os.times()[:4]) - cpu


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL, **options)


def make_lines(bin, records, work):
    """Simulated telemetry as a file of JSON lines."""
    run(bin / "hydrant-producer", "--to", f"local:{work}/made", "--simulate", records, "--shards", 1, "--malformed", 0)
    run(bin / "hydrant-consumer", "--from", f"local:{work}/made", "--to", work / "lines.ndjson", "--exit-at-end", stdout=subprocess.DEVNULL)
    shutil.rmtree(work / "made")
    return work / "lines.ndjson"


def hydrant_run(bin, lines, work, inline):
    shutil.rmtree(work / "run", ignore_errors=True)
    (work / "run.toml").write_text(
        f'memory = "256MiB"\n[run]\ndir = "{work}/run"\ninline = {str(inline).lower()}\nexit-at-end = true\n'
        f'[producer]\ninput = "{lines}"\nkey = "device_id"\n[sink]\nflush-interval = "60s"\n')
    run(bin / "hydrant", "run", work / "run.toml", stdout=subprocess.DEVNULL)


def hydrant_pii(bin, lines, work):
    with open(lines, "rb") as source, open(work / "clean.ndjson", "wb") as clean:
        run(bin / "hydrant", "pii", "run", stdin=source, stdout=clean)


def text_columns(columns):
    return [name for name, kind in columns if str(kind).upper() in ("VARCHAR", "STRING", "UTF8")]


def duckdb_job(lines, work, strip):
    import duckdb

    database = duckdb.connect()
    source = f"read_json('{lines}', format='newline_delimited')"
    replaced = ""
    if strip:
        described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        calls = []
        for name in text_columns([row[:2] for row in described]):
            call = f'"{name}"'
            for label, pattern in PATTERNS.items():
                call = f"regexp_replace({call}, '{pattern}', '[{label.upper()}]', 'g')"
            calls.append(f'{call} AS "{name}"')
        replaced = f" REPLACE ({', '.join(calls)})"
    database.execute(
        f"COPY (SELECT *{replaced} FROM {source}) TO '{work}/duckdb.parquet' "
        "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def polars_job(lines, work, strip):
    import polars

    frame = polars.scan_ndjson(lines, infer_schema_length=10_000)
    if strip:
        for name in text_columns(frame.collect_schema().items()):
            column = polars.col(name)
            for label, pattern in PATTERNS.items():
                column = column.str.replace_all(pattern, f"[{label.upper()}]")
            frame = frame.with_columns(column)
    frame.sink_parquet(f"{work}/polars.parquet", compression="zstd", compression_level=1)


def presidio_job(texts):
    """Without its e-mail recogniser, which fetches a list of domains from the network."""
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer, IbanRecognizer, IpRecognizer, PhoneRecognizer, UsSsnRecognizer)

    recognizers = [kind() for kind in (CreditCardRecognizer, IbanRecognizer, IpRecognizer,
                                       PhoneRecognizer, UsSsnRecognizer)]

    def work():
        for text in texts:
            for recognizer in recognizers:
                recognizer.analyze(text, recognizer.supported_entities, None)

    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", type=Path, help="the folder of the release binaries")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is shown")
    options = parser.parse_args()
    bin = options.bin.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lines = make_lines(bin, options.records, work)
        size = lines.stat().st_size
        with open(lines, encoding="utf-8") as source:
            texts = [line for _, line in zip(range(1000), source)]
        jobs = [
            ("hydrant run: two streams, strip, lake", lambda: hydrant_run(bin, lines, work, False), size),
            ("hydrant run, inline: one stream, strip, lake", lambda: hydrant_run(bin, lines, work, True), size),
            ("hydrant pii run: strip only, lines to lines", lambda: hydrant_pii(bin, lines, work), size),
            ("DuckDB: four expressions, Parquet", lambda: duckdb_job(lines, work, True), size),
            ("DuckDB: no stripping, Parquet", lambda: duckdb_job(lines, work, False), size),
            ("Polars: four expressions, Parquet", lambda: polars_job(lines, work, True), size),
            ("Polars: no stripping, Parquet", lambda: polars_job(lines, work, False), size),
            ("Presidio: search only, 5 pattern recognisers", presidio_job(texts), sum(map(len, texts))),
        ]
        print(f"{options.records} records, {size / 1e6:.0f} MB of JSON, {os.cpu_count()} cores, best of {options.rounds}\n")
        print("| job | MB/s | MB per CPU second | hydrant run, as a multiple |\n|---|---|---|---|")
        base = None
        for name, job, amount in jobs:
            try:
                wall, cpu = min(timed(job) for _ in range(options.rounds))
            except ImportError as error:
                print(f"| {name} | not installed: {error.name} | | |")
                continue
            except Exception as error:  # one peer that fails must not hide the others
                print(f"| {name} | failed: {str(error).splitlines()[0][:120]} | | |")
                continue
            rate = amount / 1e6 / wall
            base = base or rate
            print(f"| {name} | {rate:.1f} | {amount / 1e6 / max(cpu, 1e-9):.1f} | {base / rate:.2f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
