"""Reads a lake with DuckDB, Polars and pyarrow by plain glob and checks what they see.

usage: readers.py HYDRANT LAKE TABLE [--demo FILE] [--verified FILE --units N] [--input FILE.ndjson.gz --logs FILE...]
"""

import argparse
import collections
import glob
import gzip
import ipaddress
import json
import re
import subprocess

import duckdb
import pyarrow.parquet

IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])(?!/24)")


def line(args, reader):
    """The line that the product tells users to paste."""
    out = subprocess.run(
        [args.hydrant, "lake", "schema", "file:" + args.lake, "--table", args.table, "--for", reader],
        check=True, capture_output=True, text=True,
    ).stdout.strip()
    print(f"   {reader}: {out}")
    return out


def counts(args):
    query = line(args, "duckdb")
    by_duckdb = duckdb.sql(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
    frame = evaluate(line(args, "polars"))
    by_polars = frame.collect().height if hasattr(frame, "collect") else frame.height
    dataset = evaluate(line(args, "pyarrow"))
    by_pyarrow = dataset.count_rows() if hasattr(dataset, "count_rows") else dataset.num_rows
    assert by_duckdb == by_polars == by_pyarrow, (by_duckdb, by_polars, by_pyarrow)
    return by_duckdb


def evaluate(text):
    """What is pasted: a line that imports, and an expression."""
    imports, expression = text.split("\n")
    scope = {}
    exec(imports, scope)
    return eval(expression, scope)


def addresses(text):
    found = []
    for match in IPV4.finditer(text):
        try:
            found.append(ipaddress.ip_address(match.group()))
        except ValueError:
            pass
    return found


def check_input(args):
    """Every line is a row once, numbers are unchanged, and no address is left anywhere."""
    with gzip.open(args.input, "rt") as lines:
        sent = [json.loads(text) for text in lines]
    files = f"{args.lake}/{args.table}/**/*.parquet"
    columns = [name for name in sent[0] if name != "ip"]
    rows = duckdb.sql(
        f"SELECT {', '.join(columns)}, ip FROM read_parquet('{files}', union_by_name=true, hive_partitioning=true)"
    ).fetchall()
    network = lambda ip: ip.rsplit(".", 1)[0] + ".0/24"
    wanted = collections.Counter(tuple(record[name] for name in columns) + (network(record["ip"]),) for record in sent)
    found = collections.Counter(rows)
    assert found == wanted, (list((found - wanted).items())[:3], list((wanted - found).items())[:3])
    raw = {record["ip"] for record in sent}
    for path in glob.glob(f"{args.lake}/**/*", recursive=True):
        if path.endswith(".parquet"):
            text = "\n".join(
                str(value) for column in pyarrow.parquet.read_table(path).columns for value in column.to_pylist()
            )
            metadata = pyarrow.parquet.read_metadata(path)
            for group in range(metadata.num_row_groups):
                for column in range(metadata.num_columns):
                    statistics = metadata.row_group(group).column(column).statistics
                    if statistics and statistics.has_min_max:
                        text += f"\n{statistics.min}\n{statistics.max}"
        elif path.endswith(".json"):
            with open(path) as file:
                text = file.read()
        else:
            continue
        assert not addresses(text), (path, addresses(text)[:3])
        assert path.endswith(".parquet") or not any(ip in text for ip in list(raw)[:1000]), path
    for path in args.logs:
        with open(path) as file:
            assert not addresses(file.read().replace("127.0.0.1", "")), path
    print(f"   {len(rows)} rows, all numbers as sent, no address left")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hydrant")
    parser.add_argument("lake")
    parser.add_argument("table")
    parser.add_argument("--demo")
    parser.add_argument("--verified")
    parser.add_argument("--units", type=int)
    parser.add_argument("--input")
    parser.add_argument("--logs", nargs="*", default=[])
    args = parser.parse_args()
    seen = counts(args)
    print(f"   {seen} rows by DuckDB, Polars and pyarrow")
    if args.demo:
        with open(args.demo) as file:
            demo = json.load(file)
        assert demo["verified"] is True, demo
        assert len(demo["samples"]) == 3, demo["samples"]
        assert demo["rows"] == seen, (demo["rows"], seen)
    if args.verified:
        with open(args.verified) as file:
            verified = json.load(file)
        assert verified["ok"] is True, verified
        assert verified["rows"] == seen, (verified["rows"], seen)
        if args.units is not None:
            units = verified["rows"] + verified["dead_letters"] + verified["dropped"]
            assert units == args.units, (units, args.units)
    if args.input:
        check_input(args)


main()
