"""Inputs as people make them: each is refused or warned of by a sentence, or converted right.

They were invented without a look at the code that reads them. ``REFUSED`` and ``SAID`` hold a
phrase of the sentence, ``RIGHT`` what values and timesteps must be. What can't be known of data
(winds in knots, a changed sign, components exchanged) is in docs/limits.md.
"""

from __future__ import annotations

import gzip
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import ClimstackError, check_data, convert, load_schema
from tests.features.sources.pairs import dump, pair_of

SCHEMA = load_schema("leap")
ID, WIDTH, STEPS = SCHEMA.id_column, 16, 24
N = WIDTH * STEPS
PROFILES = [v.name for v in SCHEMA.variables if v.n_levels > 1]
TENDENCIES = [c for v in SCHEMA.targets if v.n_levels > 1 for c in v.columns]

Table = pl.DataFrame
Make = Callable[[Path, Table], Any]


def numbered(table: Table, form: str = "train_{}") -> Table:
    return table.with_columns(pl.Series(ID, [form.format(i) for i in range(len(table))]))


def parquet(change: Callable[[Table], Table], name: str = "t.parquet") -> Make:
    def make(folder: Path, table: Table) -> Path:
        change(table).write_parquet(folder / name)
        return folder / name

    return make


def files(*changes: Callable[[Table], Table]) -> Make:
    def make(folder: Path, table: Table) -> list[Path]:
        return [parquet(f, f"{i}.parquet")(folder, table) for i, f in enumerate(changes)]

    return make


def rows(order: Any) -> Make:
    """Rows in another order under new ids."""
    return parquet(lambda t: numbered(t[np.asarray(order).ravel()]))


def text(change: Callable[[str], str | bytes], name: str = "t.csv") -> Make:
    """The first four timesteps as CSV."""

    def make(folder: Path, table: Table) -> Path:
        made = change(table[: 4 * WIDTH].write_csv())
        (folder / name).write_bytes(made.encode() if isinstance(made, str) else made)
        return folder / name

    return make


def cell(value: str, column: str = "state_u_5", row: int = 40) -> Make:
    def change(csv: str) -> str:
        lines = csv.split("\n")
        at, fields = lines[0].split(",").index(column), lines[row + 1].split(",")
        lines[row + 1] = ",".join([*fields[:at], value, *fields[at + 1 :]])
        return "\n".join(lines)

    return text(change)


def lines(change: Callable[[list[str]], list[str]]) -> Make:
    return text(lambda csv: "\n".join(change(csv.splitlines())) + "\n")


def zipped(name: str, pack: Callable[[bytes], bytes] = bytes) -> Make:
    def make(folder: Path, table: Table) -> Path:
        with zipfile.ZipFile(folder / "t.zip", "w") as archive:
            archive.writestr(name, pack(table[: 4 * WIDTH].write_csv().encode()))
        return folder / "t.zip"

    return make


def renamed(**names: str) -> Make:
    """Variables under the names of others."""
    there = {a: f"~{b}" for a, b in _columns(names).items()}
    return parquet(lambda t: t.rename(there).rename({b: b[1:] for b in there.values()}))


def _columns(names: dict[str, str]) -> dict[str, str]:
    levels = [f"_{k}" for k in range(60)]
    return {
        a + level: b + level
        for a, b in names.items()
        for level in (levels if a in PROFILES else [""])
    }


def releveled(level: Callable[[int], Any], names: list[str] = PROFILES) -> Make:
    """Levels under the numbers of others."""
    return parquet(
        lambda t: t.rename({f"{v}_{k}": f"{v}_{level(k)}" for v in names for k in range(60)})
    )


def valued(change: Callable[[pl.Expr], pl.Expr], *columns: str) -> Make:
    return parquet(lambda t: t.with_columns(change(pl.col(c)) for c in columns))


def mixed(order: Any) -> Make:
    """Targets of other rows than their inputs."""
    o = np.asarray(order)
    return parquet(lambda t: t.with_columns(t[o].select(SCHEMA.target_columns)))


def pairs(change: Callable[[Any], Any], **form: Any) -> Make:
    def make(folder: Path, table: Table) -> Path:
        parquet(lambda t: t)(folder, table)
        held = pair_of(convert(folder / "t.parquet", folder / "s", SCHEMA, WIDTH), WIDTH)
        change(held)
        return dump(folder / "pairs", held, **form)

    return make


def on(kind: str, change: Callable[[Any], Any], *names: str) -> Callable[[Any], None]:
    """Change variables of one file of the pair, or of both."""

    def apply(held: Any) -> None:
        for each in ("mli", "mlo") if kind == "both" else (kind,):
            for name in names or held[each]:
                if name in held[each]:
                    change(held[each][name])

    return apply


def narrow(variable: Any) -> None:
    variable.values = variable.values.astype("f4").astype("f8")


def roll(variable: Any) -> None:
    variable.values = np.roll(variable.values, 3, axis=-1)


GRID = np.arange(N).reshape(STEPS, WIDTH)
SHUFFLED = np.random.default_rng(0).permutation(N)

REFUSED: dict[str, tuple[Make, str]] = {
    "sorted by id as text": (parquet(lambda t: t.sort(ID)), "row 2 has sample_id 'train_10'"),
    "sorted by a value": (parquet(lambda t: t.sort("state_t_59")), "order of ids"),
    "descending": (parquet(lambda t: t.reverse()), "row 1 has sample_id 'train_382'"),
    "files overlap": (files(lambda t: t[:240], lambda t: t[224:]), "already in row 224"),
    "ids restart": (files(lambda t: t[:192], lambda t: numbered(t[192:])), "'train_0' in row 0"),
    "the same file twice": (files(lambda t: t, lambda t: t), "must be unique"),
    "padded ids twice": (
        files(*[lambda t: numbered(t, "train_{:06d}")] * 2), "'train_000000' in row 0"
    ),
    "column by column": (rows(GRID.T), "'cam_in_LANDFRAC' is"),
    "a row dropped, new ids": (rows(np.delete(np.arange(N), 99)), "rows are missing or out"),
    "a column dropped, new ids": (rows(GRID[:, :-1]), "the grid has 15 columns and not 16"),
    "columns permuted later": (rows([*GRID[:12], *GRID[12:, ::-1]]), "row 192: 'cam_in_LANDFRAC'"),
    "a join's double rows": (
        parquet(lambda t: t[np.sort([*range(N), 40, 41])]), "row 41 has sample_id 'train_40'"
    ),
    "begins within a timestep": (parquet(lambda t: t[10:]), "in the middle of a timestep"),
    "last timestep cut": (parquet(lambda t: t[:-5]), "the last timestep is cut"),
    "ids from 1": (
        parquet(lambda t: t.with_columns("train_" + (pl.int_range(pl.len()) + 1).cast(pl.String))
                .drop(ID).rename({"literal": ID})), "in the middle of a timestep"
    ),
    "integer ids": (
        parquet(lambda t: t.with_columns(pl.Series(ID, range(N)))), "expected train_ and a number"
    ),
    "float ids": (
        parquet(lambda t: t.with_columns(pl.Series(ID, np.arange(float(N))))), "'0.0' in row 0"
    ),
    "huge ids": (parquet(lambda t: numbered(t, "train_1{:020d}")), "at most 18 digits"),
    "only ids sorted": (parquet(lambda t: t.with_columns(t[ID].sort())), "'train_10'"),
    "land and ocean exchanged": (
        renamed(cam_in_LANDFRAC="cam_in_OCNFRAC", cam_in_OCNFRAC="cam_in_LANDFRAC"),
        "unless the column itself is wrong",
    ),
    "levels from 1": (releveled(lambda k: k + 1), "no column 'state_t_0'"),
    "levels padded": (releveled(lambda k: f"{k:02d}"), "no column 'state_t_0'"),
    "temperature and humidity exchanged": (
        renamed(state_t="state_q0001", state_q0001="state_t"), "80 to 600 K"
    ),
    "one level in degrees C": (valued(lambda c: c - 273.15, "state_t_59"), "state_t_59"),
    "ice in percent": (valued(lambda c: c * 100, "cam_in_ICEFRAC"), "-0.01 to 1.01"),
    "an angle for its cosine": (
        valued(lambda c: c.arccos().degrees(), "pbuf_COSZRS"), "-1.01 to 1.01"
    ),
    "0 for no temperature": (valued(lambda c: c * 0, "state_t_9"), "in row 0"),
    "tendencies an hour": (valued(lambda c: c * 3600, *TENDENCIES), "m/s2"),
    "g/kg in one of two files": (
        files(lambda t: t[:192], lambda t: t[192:].with_columns(pl.col("^state_q0001_.*$") * 1e3)),
        "1.parquet: column 'state_q0001_",
    ),
    "a target missing": (parquet(lambda t: t.drop("ptend_v_59")), "no column 'ptend_v_59'"),
    "train and test together": (
        files(lambda t: t, lambda t: t.drop(SCHEMA.target_columns)), "has no targets"
    ),
    "index column": (
        parquet(lambda t: t.with_row_index("Unnamed: 0")), "remove it, or ignore it by --ignore"
    ),
    "lists for profiles": (
        parquet(lambda t: t.with_columns(state_t=pl.concat_list("^state_t_.*$"))
                .drop([f"state_t_{k}" for k in range(60)])), "no column 'state_t_0' and 59 more"
    ),
    "numbers as text": (valued(lambda c: c.cast(pl.String), "state_ps"), "type String"),
    "old Mac's line ends": (text(lambda s: s.replace("\n", "\r")), "carriage returns"),
    "doubled carriage returns": (text(lambda s: s.replace("\n", "\r\r\n")), "carriage returns"),
    "no header": (lines(lambda each: each[1:]), "expected a header line"),
    "two files behind one another": (lines(lambda each: [*each, *each]), "'state_t_0' in row 64"),
    "a title first": (lines(lambda each: ["my data", *each]), "no column 'sample_id'"),
    "a row of units": (lines(lambda each: [each[0], "," + "K," * 923 + "K"]), "'K' in row 0"),
    "an empty line": (lines(lambda each: [*each[:50], "", *each[50:]]), "row 49 is empty"),
    "row names of R": (
        lines(lambda each: [each[0], *(f"{i},{x}" for i, x in enumerate(each[1:]))]), "926 fields"
    ),
    "commas at the ends": (lines(lambda each: [f"{x}," for x in each]), "a column ''"),
    "cut in a row": (text(lambda s: s[: s.rindex(",")]), "was the row or the file cut off"),
    "zeros at the end": (text(lambda s: s + "\0" * 512), "row 64 has 1 fields"),
    "decimal commas": (text(lambda s: s.replace(",", ";").replace(".", ",")), "'sample_id;state"),
    "a web page": (text(lambda _: "<html>Sign in</html>;"), "one field, '<html>Sign in"),
    "UTF-16": (text(lambda s: s.encode("utf-16")), "not UTF-8"),
    "gzip under another name": (text(lambda s: gzip.compress(s.encode(), 1)), "is it compressed"),
    "gzip cut": (text(lambda s: gzip.compress(s.encode(), 1)[:-99], "t.csv.gz"), "cut off"),
    "gzip in zip": (zipped("t.csv.gz", gzip.compress), "holds 0 .csv files"),
    "thousands": (cell('"98,123.4"', "state_ps"), "expected a number"),
    "Fortran's D": (cell("1.5D-05"), "'1.5D-05' in row 40"),
    "Fortran's stars": (cell("******"), "expected a number"),
    "NA": (cell("NA"), "'NA' in row 40"),
    "nan": (cell("NaN"), "nan in row 40"),
    "too large": (cell("1e400"), "inf in row 40"),
    "a spreadsheet's date": (cell("2-Jan"), "'2-Jan' in row 40"),
    "a minus of typesetters": (cell("\u22121.5"), "expected a number"),
    "pair: other columns after": (pairs(on("mlo", roll)), "in one order"),
    "pair: humidity turned alone": (
        pairs(on("mli", lambda v: v.turn(), "state_q0001")), "from the ground up, by pbuf_ozone"
    ),
    "pair: nan after the step": (
        pairs(on("mlo", lambda v: v.values.__setitem__((3, 5), np.nan), "state_t")), ".mlo."
    ),
    "pair: of another kind": (
        pairs(on("mlo", lambda v: v.attributes.update(units="kg m-2 s-1"), "cam_out_PRECC")),
        "of another kind",
    ),
    "pair: a fill value that is true": (
        pairs(on("mli", lambda v: v.attributes.update(_FillValue=0.0), "cam_in_LANDFRAC")), "nan"
    ),
}  # fmt: skip

OTHER_ROW = "are inputs and targets those of the same rows and levels"
TOP = "is level 0 the top"
SAID: dict[str, tuple[Make, str]] = {
    "targets one row on": (mixed(np.roll(np.arange(N), 1)), OTHER_ROW),
    "targets one timestep on": (mixed(np.roll(np.arange(N), WIDTH)), OTHER_ROW),
    "some targets joined wrongly": (
        mixed([*range(100), *np.roll(np.arange(100, 140), 3), *range(140, N)]), "row 100: 'ptend_"
    ),
    "targets negated": (valued(lambda c: -c, *TENDENCIES), OTHER_ROW),
    "cloud liquid and ice exchanged": (
        renamed(state_q0002="state_q0003", state_q0003="state_q0002"), OTHER_ROW
    ),
    "levels of targets turned": (
        releveled(lambda k: 59 - k, [v.name for v in SCHEMA.targets if v.n_levels > 1]), OTHER_ROW
    ),
    "all levels turned": (releveled(lambda k: 59 - k), "'state_q0001' does not grow downward"),
    "humidity turned": (releveled(lambda k: 59 - k, ["state_q0001"]), "does not grow downward"),
    "levels numbered round": (releveled(lambda k: (k + 1) % 60), "does not grow downward"),
    "levels sorted as text": (releveled(lambda k: sorted(range(60), key=str)[k]), TOP),
    "temperature turned": (releveled(lambda k: 59 - k, ["state_t"]), "the lowest level has 2"),
    "ozone and methane exchanged": (
        renamed(pbuf_ozone="pbuf_CH4", pbuf_CH4="pbuf_ozone"), "'pbuf_ozone' does not grow upward"
    ),
    "snow and rain exchanged": (
        renamed(cam_out_PRECC="cam_out_PRECSC", cam_out_PRECSC="cam_out_PRECC"),
        "'cam_out_PRECSC' is .* which it is a part of",
    ),
    "sea everywhere": (
        parquet(lambda t: t.with_columns(cam_in_OCNFRAC=1.0)), "but land, sea and ice are 1"
    ),
    "a column twice": (
        parquet(lambda t: t.with_columns(state_t_31="state_t_30")), "'state_t_31' equals"
    ),
    "a timestep filled": (rows([*GRID[:5], GRID[4], *GRID[6:]]), "16 rows are copies"),
    "timesteps shuffled": (rows(np.random.default_rng(1).permutation(GRID)), "jumps up and down"),
    "float32": (valued(lambda c: c.cast(pl.Float32), "state_ps"), "came as Float32"),
    "float32 widened": (
        valued(lambda c: c.cast(pl.Float32).cast(pl.Float64), "^state_q0002_.*$"),
        "those of float32 in all rows looked at, .* state_q0002_",
    ),
    "float32 in text": (
        text(lambda s: pl.read_csv(s.encode()).cast({pl.Float64: pl.Float32}).write_csv()),
        "decimals of at most 12 digits",
    ),
    "two decimals": (valued(lambda c: c.round(2), "^state_t_.*$"), "decimals .* state_t_"),
    "whole numbers": (valued(lambda c: c.cast(pl.Int64), "state_ps"), "came as Int64"),
    "pair: float32 widened after": (pairs(on("mlo", narrow)), "values of float32"),
    "pair: temperature turned": (
        pairs(on("both", lambda v: v.turn(), "state_t")), "the lowest level has"
    ),
    "pair: all turned": (pairs(on("both", lambda v: v.turn())), "were turned over"),
}  # fmt: skip

RIGHT: dict[str, tuple[Make, Callable[[Table], Table]]] = {
    "ids padded": (parquet(lambda t: numbered(t, "train_{:08d}")), lambda t: t),
    "a timestep left out": (
        parquet(lambda t: t[[*range(80), *range(96, N)]]), lambda t: t[[*range(80), *range(96, N)]]
    ),
    "files in another order": (
        files(lambda t: t[:128], lambda t: t[256:], lambda t: t[128:256]),
        lambda t: t[[*range(128), *range(256, N), *range(128, 256)]],
    ),
    "columns in another order": (parquet(lambda t: t.select(t.columns[::-1])), lambda t: t),
    "categorical ids": (
        parquet(lambda t: t.with_columns(pl.col(ID).cast(pl.Categorical))), lambda t: t
    ),
    "BOM, CRLF, quotes": (
        lines(lambda each: [
            "\ufeff" * (not i) + ",".join(f'"{x}"' for x in line.split(",")) + "\r"
            for i, line in enumerate(each)
        ]), lambda t: t[:64]
    ),
    "spaces": (text(lambda s: s.replace(",", ", ")), lambda t: t[:64]),
    "no last line end": (text(lambda s: s.rstrip()), lambda t: t[:64]),
    "two gzips in one": (
        text(lambda s: b"".join(gzip.compress(x.encode(), 1) for x in (s[:9999], s[9999:])),
             "t.csv.gz"), lambda t: t[:64]
    ),
    "a Mac's zip": (zipped("data/train.csv"), lambda t: t[:64]),
    "plus signs": (
        cell("+9.8E+0004", "state_ps"),
        lambda t: t[:64].with_columns(
            state_ps=pl.when(pl.int_range(64) == 40).then(98000.0).otherwise("state_ps")),
    ),
    "denormals and -0": (
        parquet(lambda t: t.with_columns(state_q0002_0=-0.0, state_q0002_1=5e-324)),
        lambda t: t.with_columns(state_q0002_0=-0.0, state_q0002_1=5e-324),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def table(generated: dict[str, Path]) -> Table:
    return pl.read_parquet(generated["train"])


def checked(source: Any, level: str) -> str:
    found = check_data(source, SCHEMA, WIDTH)
    return "\n".join(each.sentence for each in found if each.level == level)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_a_sentence(name, table, tmp_path):
    make, phrase = REFUSED[name]
    source = make(tmp_path, table)
    with pytest.raises(ClimstackError, match=re.escape(phrase)):
        convert(source, tmp_path / "out", SCHEMA, WIDTH)
    assert phrase in checked(source, "error")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("name", SAID)
@pytest.mark.filterwarnings("ignore::features.DataWarning")
def test_it_is_said(name, table, tmp_path):
    make, phrase = SAID[name]
    source = make(tmp_path, table)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(source, tmp_path / "out", SCHEMA, WIDTH)
    assert re.search(phrase, "\n".join(str(each.message) for each in caught))
    if "jumps" not in phrase:  # that is seen in a whole store only
        assert re.search(phrase, checked(source, "warning"))


@pytest.mark.parametrize("name", RIGHT)
def test_it_is_converted_right(name, table, tmp_path):
    make, right = RIGHT[name]
    store, expected = convert(make(tmp_path, table), tmp_path / "out", SCHEMA, WIDTH), right(table)
    every = np.arange(len(store))
    assert np.array_equal(store.inputs[every], expected.select(SCHEMA.input_columns).to_numpy())
    assert np.array_equal(store.targets[every], expected.select(SCHEMA.target_columns).to_numpy())
    numbers = expected[ID].str.extract(r"(\d+)").cast(pl.Int64).to_numpy()
    assert np.array_equal(store.time, numbers // WIDTH)
