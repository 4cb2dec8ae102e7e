"""Logs as text: delimiters, encodings, compression, JSON, and numbers in words and formats."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

from cascjax.cli import main
from cascjax.data import read_table
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.importers import ImportResult, import_long

ROWS = [
    ("q0", "org/small", 1, 0.001),
    ("q0", "big", 1, 0.01),
    ("q1", "org/small", 0, 0.001),
    ("q1", "big", 1, 0.02),
    ("q2", "org/small", 1, 0.002),
    ("q2", "big", 0, 0.01),
]
QUALITY = [[1, 1], [0, 1], [1, 0]]
COST = np.array([[0.001, 0.01], [0.001, 0.02], [0.002, 0.01]], np.float32)
HEADER = ("id", "model", "score", "cost")
BOTH = {"quality": "score", "cost": "cost"}


def csv(score: Any = str, cost: Any = str, delimiter: str = ",", end: str = "\n") -> str:
    lines = [HEADER] + [(q, m, score(s), cost(c)) for q, m, s, c in ROWS]
    return end.join(delimiter.join(line) for line in lines) + end


def read(folder: Path, content: str | bytes, name: str = "log.csv", **options: Any) -> ImportResult:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_long(path, **{"query": "id", "model": "model", **BOTH, **options})


def refusal(folder: Path, content: str | bytes, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        read(folder, content, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 900
    return message


def check(table: Table) -> None:
    assert table.models == ("org/small", "big")
    np.testing.assert_array_equal(table.quality, QUALITY)
    np.testing.assert_array_equal(table.cost, COST)


WORDS = [
    *(("True", "False"), ("TRUE", "FALSE"), ("true", "false"), ("t", "f"), ("C", "I"), ("Y", "N")),
    *(("pass", "fail"), ("PASSED", "FAILED"), ("correct", "incorrect"), ("yes", "no"), ("P", "F")),
    *(("1.0", "0.0"), ("1", "0"), (" 1 ", "0 "), ("+1", "-0"), ("True", "0"), ("1e0", ".0")),
    *(("100%", "0%"), ("100.0 %", "0")),
]


@pytest.mark.parametrize(("right", "wrong"), WORDS)
def test_words_for_right_and_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    content = csv(lambda score: right if score else wrong)
    result = read(tmp_path, content)
    check(result.table)
    plain = right.strip().lower() in ("1", "1.0", "+1", "1e0", "true")
    assert len(result.notes) == (0 if plain else 1)
    if not plain:
        assert repr(right.strip()) in result.notes[0]


def test_the_same_words_in_every_format(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=list(HEADER)).assign(score=["C", "C", "I", "C", "C", "I"])
    expected = read(tmp_path, csv())
    frame.to_parquet(tmp_path / "log.parquet")
    frame.to_pickle(tmp_path / "log.pkl")
    frame.to_feather(tmp_path / "log.arrow")
    frame.to_json(tmp_path / "log.json", orient="records")
    for suffix in ("parquet", "pkl", "arrow", "json"):
        result = import_long(tmp_path / f"log.{suffix}", "id", "model", "score", "cost")
        assert result.table == expected.table
    for booleans in (True, False):  # as numbers and as Parquet's own type
        scores = [bool(row[2]) if booleans else row[2] for row in ROWS]
        frame.assign(score=scores).to_parquet(tmp_path / "log.parquet")
        result = import_long(tmp_path / "log.parquet", "id", "model", "score", "cost")
        assert result.table == expected.table


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("85%", 0.85),
        ("7 %", 0.07),
        ("-3.5%", -0.035),
        ("P", None),
        ("partial", None),
        ("1,5", 1.5),
        ("1,234.5", 1234.5),
        ("1,234", 1234),
        ("1,234,567.25", None),  # a quality that large is refused
        ("0,123", 0.123),
        ("1.234,5", 1234.5),
        ("1 234,5", 1234.5),
        ("12'345.5", 12345.5),
        ("1_000", None),
        ("0x10", None),
        ("$1", None),
        ("--1", None),
        ("1.2.3", None),
        ("12,34,5", None),
        ("%", None),
        ("2021-01-05", None),
        ("½", None),
    ],
)
def test_one_format_of_numbers(tmp_path: Path, value: str, expected: float | None) -> None:
    lines = [f'q{i},{model},"{value}",1' for i in range(3) for model in "ab"]
    content = "\n".join(["id,model,score,cost", *lines])
    if expected is None:
        message = refusal(tmp_path, content)
        assert "column 'score', row 0 (and 5 more): " in message
        assert "too large" in message or repr(value) in message
        return
    result = read(tmp_path, content)
    np.testing.assert_array_equal(result.table.quality, np.full((3, 2), np.float32(expected)))
    assert value in result.notes[0]


@pytest.mark.parametrize(
    "cost", ["${}", "{} USD", "USD {}", "US$ {}", "€{}", "{}€", "{:f}", "{:e}"]
)
def test_amounts_of_money(tmp_path: Path, cost: str) -> None:
    result = read(tmp_path, csv(cost=cost.format))
    check(result.table)
    assert ("currency" in " ".join(result.notes)) == (cost not in ("{:f}", "{:e}"))


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (["0.1", "$1", "€1", "2"], "row 2: '€1' has another unit than earlier values"),
        (["0.1", "1%", "1", "2"], "row 1: '1%' is a percentage, and costs are amounts"),
        (["0.1", "True", "1", "2"], "row 1: 'True' is not a number; give numbers such as 0.01"),
        (["0.1", "free", "free", "2"], "row 1 (and 1 more): 'free' is not a number"),
        (["0.1", "1", "-$1", "2"], "row 2: negative"),
        (["0.1", "1", "0.1¢", "2"], "row 2: '0.1¢' is not a number"),
        (["1,5", "1", "0.1", "2"], "row 2: '0.1' has a decimal point where other values have a"),
        (["1,5", "1,234.5", "1", "2"], "row 1: '1,234.5' separates thousands or decimals unlike"),
        (["1", "x" * 5000, "1", "2"], f"row 1: '{'x' * 40}...' is not a number"),
        (["1", "a\nb", "1", "2"], "row 1: 'a\\nb' is not a number"),
        (["1", "2e12", "1", "2"], "row 1: 2e+12 is too large; its magnitude must be below 1e+12"),
    ],
)
def test_a_cost_that_is_no_number(tmp_path: Path, costs: list[str], message: str) -> None:
    pairs = zip(("q,a", "q,b", "r,a", "r,b"), costs, strict=True)
    lines = [f'{pair},1,"{cost}"' for pair, cost in pairs]
    got = refusal(tmp_path, "\n".join(["id,model,score,cost", *lines]))
    assert f"log.csv: column 'cost', {message}" in got


def test_a_quality_that_is_no_number_or_too_large(tmp_path: Path) -> None:
    content = csv(lambda score: "good" if score else "bad")
    assert (
        "column 'score', row 0 (and 3 more): 'good' is not a number; give numbers, or"
        in refusal(tmp_path, content)
    )
    for huge in ("1e30", "-1e6", "1000000"):
        message = refusal(tmp_path, csv(lambda score, huge=huge: "1" if score else huge))
        assert f"'score', row 2 (and 1 more): {float(huge):g} is too large; its" in message
    assert "'90' is not a percentage" in refusal(
        tmp_path, csv(lambda score: "85%" if score else "90")
    )


@pytest.mark.parametrize(
    "missing", ["", '""', "NA", "null", "NaN", "nan", "None", "N/A", "#N/A", "-"]
)
@pytest.mark.parametrize("column", ["score", "cost"])
def test_words_for_missing_numbers(tmp_path: Path, missing: str, column: str) -> None:
    words: Any = {column: lambda value: missing if value in (0, 0.02) else str(value)}
    content = csv(**words)
    message = refusal(tmp_path, content)
    n_missing = 2 if column == "score" else 1
    assert "lacking one of the 2 models, its quality or its cost (first: 'q1'" in message
    noun = (
        "'org/small', 'big' each 1 without a quality"
        if column == "score"
        else "'big' 1 without a cost"
    )
    assert noun in message
    assert read(tmp_path, content, invalid="drop").n_missing == n_missing


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(tmp_path: Path, delimiter: str, end: str) -> None:
    check(read(tmp_path, csv(delimiter=delimiter, end=end)).table)
    check(read(tmp_path, f"sep={delimiter}{end}" + csv(delimiter=delimiter, end=end)).table)
    check(read(tmp_path, end + csv(delimiter=delimiter, end=end).rstrip()).table)


def test_decimal_commas_with_semicolons(tmp_path: Path) -> None:
    result = read(tmp_path, csv(cost=lambda c: str(c).replace(".", ","), delimiter=";"))
    check(result.table)
    assert "commas are decimal points: '0,001' is 0.001" in result.notes[0]
    thousands = csv(cost=lambda _: "1,234", delimiter=";")
    np.testing.assert_allclose(read(tmp_path, thousands).table.cost, 1.234)
    np.testing.assert_allclose(read(tmp_path, csv(cost=lambda _: '"1,234"')).table.cost, 1234)


ENCODED = [
    *(("utf-8-sig", None), ("utf-16", None), ("utf-32", None), ("latin-1", "Latin-1")),
    ("cp1252", "Latin-1"),
]


@pytest.mark.parametrize(("encoding", "note"), ENCODED)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_encodings(tmp_path: Path, encoding: str, note: str | None, kind: str) -> None:
    content = csv().replace("org/small", "é/kleiner Bär")
    if kind == "json":
        records = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
        content = json.dumps(records, ensure_ascii=False).replace("org/small", "é/kleiner Bär")
    result = read(tmp_path, content.encode(encoding))
    assert result.table.models == ("é/kleiner Bär", "big")
    assert [str(note) in each for each in result.notes] == ([True] if note else [])


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("log.csv.gz", gzip.compress),
        ("log.csv", gzip.compress),
        ("log.bz2", bz2.compress),
        ("log.zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
)
def test_compressed_text(tmp_path: Path, name: str, compress: Any) -> None:
    check(read(tmp_path, compress(csv(str).encode()), name).table)
    lines = "\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in ROWS)
    check(read(tmp_path, compress(lines.encode()), name).table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it has no columns and no rows"),
        (gzip.compress(b""), "it has no columns"),
        (gzip.compress(csv().encode())[:-12], "log.csv"),
        (gzip.compress(b"PAR1" + bytes(9)), "it is a compressed binary; unpack it"),
        (b"PK\x03\x04" + bytes(30), "a zip archive or a spreadsheet; unpack it"),
        (bytes(range(256)) * 9, "it is neither text nor"),
        (b"id,model,score,cost", "the file has no rows"),
        (b"id,model,score,cost\n", "the file has no rows"),
        (b"id,model,score,cost,cost\na,b,1,2,3\n", "column 'cost' is listed 2 times"),
        (b"id,model,score,cost\na,b,1\na,c,1,2\n", "row 0: 3 fields where the header has 4"),
        (csv().encode() + b"q,a,1,2,3\nr,b\n", "row 6 (and 1 more): 5 fields where the header"),
        (b"id,model,score,cost\n\x81\x8d,b,1,1\n", "neither UTF-8 nor Latin-1"),
        (b"[]", "unknown column 'id'"),
        (b"{}", "unknown column 'id'"),
        (b"[1, 2]", "row 0: 1 is not a JSON object; give one object per row"),
        (b"[[1], [2]]", "row 0: an array is not a JSON object"),
        (b'{"id": "a"}\n{"id": ', "line 2, column 8 is not JSON"),
        (b'{"id": "a", }', "line 1, column 13 is not JSON"),
        (b'{"meta": {"version": 1}, "rows": []}', "the file is one JSON object, not one per row"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    # Named by message: compressed bytes hold the time, and workers must collect the same names.
    ids=lambda value: value if isinstance(value, str) else "text",
)
def test_text_that_is_no_log(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path, content)


def test_names_of_columns_are_cut_in_messages(tmp_path: Path) -> None:
    long = ["x" * 500, *(f"column {i}" for i in range(300))]
    message = refusal(tmp_path, ",".join(long) + "\n" + ",".join(map(str, range(301))))
    assert f"known: {'x' * 60}..., column 0, " in message
    assert message.endswith(" more")
    record = json.dumps({"text": "y" * 9000, "Id": 1, "model": "a", "score": 1, "cost": 1})
    message = refusal(tmp_path, f"{record}\n{record}")
    assert message.endswith("unknown column 'id'; known: text, Id, model, score, cost")


def test_quoted_fields_and_names_with_spaces(tmp_path: Path) -> None:
    lines = [f'"{q}, ""x""\ny", {m} ,{s},{c},"a\n\n,b"' for q, m, s, c in ROWS]
    result = read(tmp_path, "\n".join(['id, model,"score", cost ,notes', *lines]))
    assert result.query_id.to_pylist() == [f'{q}, "x"\ny' for q in ("q0", "q1", "q2")]
    np.testing.assert_array_equal(result.table.quality, QUALITY)


def test_rows_of_many_megabytes(tmp_path: Path) -> None:
    lines = [f'{q},{m},{s},{c},"{"x" * (3 << 20)}"' for q, m, s, c in ROWS[:2]]
    lines += [f"{q},{m},{s},{c},y" for q, m, s, c in ROWS[2:]]
    check(read(tmp_path, "\n".join(["id,model,score,cost,notes", *lines])).table)


def records(**replaced: Any) -> list[dict[str, Any]]:
    return [dict(zip(HEADER, row, strict=True)) | replaced for row in ROWS]


LAYOUTS = {
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "lines with spaces": lambda rows: " \n\n" + " \r\n\n".join(map(json.dumps, rows)) + "\n\n",
    "array": json.dumps,
    "indented array": lambda rows: json.dumps(rows, indent=2),
    "indented objects": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "inside an object": lambda rows: json.dumps({"version": {"of": 1}, "results": rows}),
    "without line ends": lambda rows: "".join(map(json.dumps, rows)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["log.jsonl", "log.json", "log.csv"])
def test_json(tmp_path: Path, layout: str, name: str) -> None:
    check(read(tmp_path, LAYOUTS[layout](records()), name).table)
    rows = [row | {"score": bool(row["score"])} for row in records()]
    result = read(tmp_path, LAYOUTS[layout](rows), name)
    check(result.table)
    assert not result.notes


def test_json_with_missing_mixed_and_nested_fields(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(records()):
        usage = {"cost": row.pop("cost")} | ({"tokens": {"out": i}} if i else {})
        scores = [1, "1", "False", True, 1.0, 0]
        rows.append(row | {"usage": usage, "score": scores[i], "a.b": 1, "logprobs": [-0.5, -i]})
    content = "\n".join(map(json.dumps, rows))
    result = read(
        tmp_path, content, cost="usage.cost", extra_signals={"t": "usage.tokens.out", "x": "a.b"},
        logprobs="logprobs",
    )  # fmt: skip
    check(result.table)
    signals = np.asarray(result.table.signals).reshape(6, -1)
    np.testing.assert_array_equal(signals[:, 0], [np.nan, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(signals[:, 3], -np.arange(6.0))
    assert "known: id, model, score, usage.cost" in refusal(tmp_path, content)
    del rows[3]["usage"], rows[4]["score"]
    rows[5]["score"] = None
    result = read(tmp_path, json.dumps(rows), cost="usage.cost", invalid="drop")
    assert result.query_id.to_pylist() == ["q0"]
    nan = "\n".join(map(json.dumps, records())).replace("0.02", "NaN")
    assert read(tmp_path, nan, invalid="drop").query_id.to_pylist() == ["q0", "q2"]


def test_whole_numbers_and_text_keep_their_form_in_json(tmp_path: Path) -> None:
    rows = [row | {"id": int(row["id"][1:]), "g": i < 2} for i, row in enumerate(records())]
    result = read(tmp_path, json.dumps(rows), group="g")
    assert result.query_id.to_pylist() == ["0", "1", "2"]
    assert result.table.groups == ("true", "false")


def test_long_and_wide_json_agree_with_csv(tmp_path: Path) -> None:
    from cascjax.importers import import_routerbench

    wide = [{"sample_id": f"q{i}", "a": i % 2, "b": 1, "a|total_cost": 1, "b|total_cost": 2.5}
            for i in range(6)]  # fmt: skip
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    pd.DataFrame(wide).to_csv(tmp_path / "wide.csv", index=False)
    results = [import_routerbench(tmp_path / f"wide.{suffix}") for suffix in ("json", "csv")]
    assert results[0].arrow.equals(results[1].arrow)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", csv(lambda score: str(bool(score)))),
        ("log.jsonl", LAYOUTS["lines"](records())),
        ("log.json", LAYOUTS["array"](records())),
    ],
)
def test_the_command_reads_text(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    words = ["--query", "id", "--model", "model", "--quality", "score", "--cost", "cost"]
    out = tmp_path / "table.arrow"
    result = CliRunner().invoke(main, ["import", "long", str(tmp_path / name), str(out), *words])
    assert result.exit_code == 0, result.output
    assert "3 queries, 2 models" in result.output
    check(read_table(out))
