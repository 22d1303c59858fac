"""Makes tables of all types and layouts, and reads each with DuckDB, Polars, pyarrow, fastparquet and Spark.

usage: tables.py BIN_DIR [--spark PYTHON]...

Every table has two schemas, null and odd values. All readers must see the same rows, types and partitions as were sent.
PYTHON is an interpreter with pyspark; the same script runs there as `tables.py --as-spark LAKES`.
"""

import argparse
import datetime
import decimal
import glob
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

decimal.getcontext().prec = 50
ROWS = 3000
LAYOUTS = {
    "by_date": ["date"],
    "by_hour": ["hour"],
    "by_fields": ["date", "region", "kind"],
    "by_types": ["date=event_date", "city", "floor", "open"],
    "flat": [],
}
# The types of the partition columns of `by_types` in DuckDB; Spark is told not to guess.
PARTITION_TYPES = {"event_date": "DATE", "city": "VARCHAR", "floor": "BIGINT", "open": "BOOLEAN"}
DECLARED = {
    "price": "DECIMAL(9,2)",
    "huge": "DECIMAL(38,4)",
    "id": "BIGINT",
    "day": "DATE",
    "at": "TIMESTAMP",
    "document": "JSON",
    "weights": "MAP(VARCHAR, BIGINT)",
}
# Column, type in Spark, and whether it is of the second schema only.
COLUMNS = [
    ("id", "bigint", False),
    ("time", "string", False),
    ("price", "decimal(9,2)", False),
    ("huge", "decimal(38,4)", False),
    ("whole", "bigint", False),
    ("real", "double", False),
    ("same", "double", False),
    ("flag", "boolean", False),
    ("text", "string", False),
    ("word", "string", False),
    ("day", "date", False),
    ("at", "timestamp", False),
    ("document", "string", False),
    ("list", "array<bigint>", False),
    ("lists", "array<array<string>>", False),
    ("items", "array<struct<k:bigint,v:string>>", False),
    ("place", "struct<lat:double,tags:array<string>,deep:struct<a:bigint>>", False),
    ("weights", "map<string,bigint>", False),
    ("rare", "bigint", False),
    ("later", "string", True),
    ("later_place", "struct<x:bigint>", True),
]
MIXED = [(1, 7.0), (2, 7.5)]
REGIONS = ["eu", "us-west", "n rth/=%:7", None]
KINDS = ["sensor", "gateway"]
# 7 is no text: its column cannot give it back, so that the value is in `_rescued` too.
CITIES = ["München", "東京 1", "007", 7, "", None, "y" * 300, {"a": [1]}]
FLOORS = [-3, 0, 12, None, "roof"]


def record(n, table=None):
    """What the device sends, as a dictionary; decimals are numbers in the text. Odd values of partition fields are sent to
    the one table that is partitioned by them."""
    day = datetime.datetime(2026, 11, 20 + n % 3, n % 24, n % 60, tzinfo=datetime.timezone.utc)
    sent = {
        "id": n,
        "time": day.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGIONS[n % 4],
        "kind": KINDS[n % 2],
        "price": decimal.Decimal(n * 7 - 5000) / 100,
        "huge": decimal.Decimal(10**33 + n) / 10000,
        "whole": n * 10**12 if n % 2 else -(2**63),
        "real": n / 7 - 100,
        "same": float(n % 3) + 0.5,
        "flag": n % 2 == 0,
        "text": ["on", "off", "", "ü ñ 'q\" \\ \t", "x" * 300][n % 5],
        "word": f"word-{n * 7919}",
        "day": f"2026-{1 + n % 12:02}-{1 + n % 28:02}",
        "at": f"2026-11-30T{n % 24:02}:00:{n % 60:02}.{n % 1000:03}{n % 7:03}Z",
        "document": [{"a": [n, None]}, n, "text", [True]][n % 4],
        "weights": {f"key {k}": n * k for k in range(n % 4)},
        "list": [n, None, -n][: n % 4],
        "lists": [["a", None], [], None][: n % 4],
        "items": [{"k": n, "v": str(n)}, {"k": None, "v": None}][: n % 3],
        "place": {"lat": n / 3, "tags": ["t"] * (n % 3), "deep": {"a": n}},
    }
    for index, name in enumerate(list(sent)[4:]):
        if n % (11 + index) == 5:
            sent[name] = None
        elif n % (13 + index) == 7:
            del sent[name]
    if n % 97 == 3:
        sent["rare"] = n
    if n >= ROWS // 2:
        sent["later"] = f"later {n % 5}"
        sent["later_place"] = {"x": n}
    if n % 50 == 9:
        sent["flag"] = "unavailable"
    if table == "by_types":
        sent["city"] = CITIES[n % 8]
        sent["floor"] = FLOORS[n % 4 if n < ROWS // 2 else n % 5]
        sent["open"] = [True, False, None][n % 3]
    return sent


def wanted_row(sent):
    """The row as every reader must see it, without partition columns."""
    row = {name: sent.get(name) for name, _, _ in COLUMNS}
    rescued = {}
    if row["flag"] == "unavailable":
        rescued["flag"] = "unavailable"
        row["flag"] = None
    city = sent.get("city")
    if isinstance(city, (int, dict)) or (city is not None and len(city) % 300 == 0):
        rescued["city"] = city
    if sent.get("floor") == "roof":
        rescued["floor"] = "roof"
    row["price"] = row["price"] if row["price"] is None else row["price"].quantize(decimal.Decimal("0.01"))
    row["huge"] = row["huge"] if row["huge"] is None else row["huge"].quantize(decimal.Decimal("0.0001"))
    if row["place"] is not None:
        row["place"] = {name: row["place"].get(name) for name in ("lat", "tags", "deep")}
    row["day"] = row["day"] and datetime.date.fromisoformat(row["day"])
    row["at"] = row["at"] and datetime.datetime.fromisoformat(row["at"].replace("Z", "+00:00"))
    row["_rescued"] = rescued or None
    return row


def plain(value):
    """The value of any reader in one form."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "asDict"):
        return plain(value.asDict())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def as_map(value):
    """A map, which some readers give as a list of entries."""
    if isinstance(value, list):
        return dict(entry.values() if isinstance(entry, dict) else entry for entry in value)
    return value


def keyed(rows, reader):
    found = {}
    for row in rows:
        row = {name: plain(value) for name, value in row.items()}
        row["weights"] = as_map(row["weights"])
        # JSON is text, of a form that is free.
        row["document"] = row["document"] and json.loads(row["document"])
        if row["at"] is not None and row["at"].tzinfo is None:
            row["at"] = row["at"].replace(tzinfo=datetime.timezone.utc)
        if row["_rescued"] is not None:
            row["_rescued"] = json.loads(row["_rescued"])
        assert row["id"] not in found, (reader, "twice", row["id"])
        found[row["id"]] = row
    return found


def compare(table, reader, rows):
    wanted = {n: wanted_row(record(n, table)) for n in range(ROWS)}
    found = keyed(rows, reader)
    assert found.keys() == wanted.keys(), (table, reader, len(found), len(wanted))
    for n, row in wanted.items():
        for name, value in row.items():
            got = found[n][name]
            assert got == value and type(got) is type(value), (table, reader, n, name, got, value)
        compare_partition(table, reader, record(n, table), found[n])


def compare_partition(table, reader, sent, row):
    time = sent["time"]
    for part in LAYOUTS[table]:
        part = part.split("=")[-1]
        got = row[part]
        wanted = sent.get(part)
        if part in ("date", "hour", "event_date"):
            date = row["date" if part == "hour" else part]
            assert str(date) == time[:10], (table, reader, date, time)
            got, wanted = str(got), time[11:13] if part == "hour" else time[:10]
        elif part == "city" and wanted is not None:
            if isinstance(wanted, dict) or wanted == "":
                wanted = None
            elif isinstance(wanted, str) and len(wanted) > 100:
                assert got.startswith("yyyyyyyy") and "~" in got, (table, reader, got)
                continue
            else:
                wanted = str(wanted)
        elif part == "floor" and wanted == "roof":
            wanted = None
        if reader == "spark" and part in ("floor", "open") and wanted is not None:
            wanted = str(wanted).lower()
        assert got == wanted and type(got) is type(wanted), (table, reader, part, got, wanted)


def evaluate(text):
    """What the product tells users to paste: a line that imports, and an expression."""
    imports, expression = text.split("\n")
    scope = {}
    exec(imports, scope)
    return eval(expression, scope)


def read_all(hydrant, lakes):
    import duckdb
    import fastparquet
    import pyarrow.parquet

    for table in LAYOUTS:
        def line(reader):
            command = [hydrant, "lake", "schema", f"file:{lakes}/{table}", "--for", reader]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        result = duckdb.sql(line("duckdb"))
        if table == "by_types":
            types = dict(zip(result.columns, map(str, result.types)))
            assert PARTITION_TYPES.items() <= types.items(), types
        compare(table, "duckdb", [dict(zip(result.columns, row)) for row in result.fetchall()])
        frame = evaluate(line("polars"))
        compare(table, "polars", frame.collect().to_dicts())
        dataset = evaluate(line("pyarrow"))
        compare(table, "pyarrow", dataset.to_table().to_pylist())
        # fastparquet reads no nested columns, and takes the statistics of another column for whole numbers behind one.
        flat = {name: kind for name, kind, _ in COLUMNS if "<" not in kind and not kind.startswith("decimal")}
        wanted = {n: wanted_row(record(n, table)) for n in range(ROWS)}
        seen = 0
        for path in glob.glob(f"{lakes}/{table}/events/**/*.parquet", recursive=True):
            file = fastparquet.ParquetFile(path)
            columns = pyarrow.parquet.read_schema(path)
            nested = min(n for n, column in enumerate(columns) if pyarrow.types.is_nested(column.type))
            whole = [name for name in columns.names[nested:] if flat.get(name) in ("bigint", "boolean")]
            frame = file.to_pandas(columns=[name for name in columns.names if name in flat and name not in whole])
            for row in frame.to_dict("records"):
                for name, value in row.items():
                    value = None if value is None or value != value else value
                    if value is not None and name in ("day", "at", "document"):
                        value = of_pandas(name, value)
                    assert value == wanted[row["id"]][name], (table, "fastparquet", row["id"], name, value)
                seen += 1
            check_footer(pyarrow.parquet.read_metadata(path))
        assert seen == ROWS, (table, "fastparquet", seen)
        print(f"   {table}: {ROWS} rows by DuckDB, Polars, pyarrow and fastparquet")


def read_mixed(hydrant, lakes):
    """A column that was BIGINT in the first file and is DOUBLE in the second, which Spark does not read."""
    import duckdb

    def line(reader):
        command = [hydrant, "lake", "schema", f"file:{lakes}/mixed", "--for", reader]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    frame = evaluate(line("polars"))
    dataset = evaluate(line("pyarrow"))
    for reader, rows in [
        ("duckdb", duckdb.sql(f"SELECT id, n FROM ({line('duckdb')})").fetchall()),
        ("polars", frame.select("id", "n").collect().rows()),
        ("pyarrow", [tuple(row.values()) for row in dataset.to_table(["id", "n"]).to_pylist()]),
    ]:
        rows.sort()
        assert rows == MIXED and all(type(n) is float for _, n in rows), (reader, rows)
    assert "do not read these columns, which are BIGINT in older files: n" in line("spark"), line("spark")


def of_pandas(name, value):
    if name == "document":
        return json.loads(value)
    time = value.to_pydatetime().replace(tzinfo=datetime.timezone.utc)
    return time.date() if name == "day" else time


def check_footer(metadata):
    """Only encodings that old readers know, and an index of the pages of each chunk."""
    known = {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED"}
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            assert set(chunk.encodings) <= known, chunk
            assert chunk.has_offset_index, chunk


def read_by_spark(lakes):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.ui.showConsoleProgress", "false")
    spark = builder.config("spark.sql.sources.partitionColumnTypeInference.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    assert spark.conf.get("spark.sql.parquet.enableVectorizedReader") == "true"
    for table in LAYOUTS:
        frame = spark.read.option("mergeSchema", "true").parquet(f"{lakes}/{table}/events")
        types = dict(frame.dtypes)
        for name, kind, _ in COLUMNS:
            assert types[name] == kind, (table, name, types[name], kind)
        assert not any(Path(path).name.startswith("_") for path in glob.glob(f"{lakes}/{table}/events/**/", recursive=True))
        compare(table, "spark", [row.asDict(recursive=True) for row in frame.collect()])
        # What is pushed down goes through the statistics and the page index.
        for name, _, _ in COLUMNS:
            if name != "document" and types[name] in ("bigint", "double", "string", "date"):
                value = wanted_row(record(1801))[name]
                if value is not None:
                    wanted = sum(wanted_row(record(n))[name] == value for n in range(ROWS))
                    found = frame.where(frame[name] == value).count()
                    assert found == wanted, (table, name, value, found, wanted)
    print(f"   {ROWS} rows of {len(LAYOUTS)} tables by Spark {spark.version}")
    spark.stop()


def text_of(sent):
    """JSON with the digits of decimals as they are."""
    marks = {}

    def marked(value):
        if isinstance(value, decimal.Decimal):
            mark = f"@{len(marks)}@"
            marks[f'"{mark}"'] = str(value)
            return mark
        return value

    text = json.dumps({name: marked(value) for name, value in sent.items()}, ensure_ascii=False)
    for mark, digits in marks.items():
        text = text.replace(mark, digits)
    return text + "\n"


def make(bin, work):
    half = ROWS // 2
    for number, range_ in enumerate([range(half), range(half, ROWS)]):
        quiet = {"check": True, "cwd": work, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for stream, table in [("raw", None), ("odd", "by_types")]:
            with open(work / f"{stream}{number}.ndjson", "w", encoding="utf-8") as out:
                out.writelines(text_of(record(n, table)) for n in range_)
            command = [bin / "hydrant-producer", "--to", f"local:{stream}", "--input", f"{stream}{number}.ndjson", "--shards", "2"]
            subprocess.run(command, **quiet)
        for table, parts in LAYOUTS.items():
            config = work / f"{table}.toml"
            columns = "".join(f'{name} = "{kind}"\n' for name, kind in DECLARED.items())
            config.write_text(f"[sink]\npartition = {json.dumps(parts)}\n[sink.columns]\n{columns}")
            command = [bin / "hydrant-sink", "--config", config, "--app", table, "--from", f"local:{'odd' if table == 'by_types' else 'raw'}"]
            subprocess.run([*command, "--to", f"file:{table}", "--exit-at-end"], **quiet)


def make_mixed(bin, work):
    quiet = {"check": True, "cwd": work, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for id, n in MIXED:
        (work / "mixed.ndjson").write_text(json.dumps({"id": id, "n": int(n) if n.is_integer() else n}) + "\n")
        subprocess.run([bin / "hydrant-producer", "--to", "local:numbers", "--input", "mixed.ndjson", "--shards", "1"], **quiet)
        subprocess.run([bin / "hydrant-sink", "--from", "local:numbers", "--to", "file:mixed", "--exit-at-end"], **quiet)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path, nargs="?")
    parser.add_argument("--spark", action="append", default=[])
    parser.add_argument("--as-spark")
    args = parser.parse_args()
    if args.as_spark:
        return read_by_spark(args.as_spark)
    with tempfile.TemporaryDirectory() as folder:
        make(args.bin.resolve(), Path(folder))
        make_mixed(args.bin.resolve(), Path(folder))
        read_all(args.bin.resolve() / "hydrant", folder)
        read_mixed(args.bin.resolve() / "hydrant", folder)
        for python in args.spark:
            environment = {**os.environ, "PYSPARK_PYTHON": python, "TZ": "UTC"}
            subprocess.run([python, __file__, "--as-spark", folder], check=True, env=environment)


main()
