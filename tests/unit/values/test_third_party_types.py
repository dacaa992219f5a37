"""numpy, pandas and Pillow values come back exactly, or are refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito.values.display import plain

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
Image = pytest.importorskip("PIL.Image")
compare: Any = pd.testing


def again(value: Any) -> Any:
    payload = encode_value(value)
    back = decode_value(payload, {})
    assert type(back) is type(value)
    assert encode_value(back) == payload
    assert canonical(back) == canonical(value)
    return back


ARRAYS = [
    np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(3), np.array(["a", "bcd"]),
    np.array([b"a"]), np.zeros((0, 3), ">f4"), np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.zeros(2, [("a", "i8"), ("b", "f8", (2,))]), np.array(["2020-01-01"], "M8[D]"), np.arange(10)[::2],
    np.arange(3).astype("m8[25s]"), np.array([1, 2], ">i2"), np.array([1, 2], "<i2"), np.array([True]),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS)
def test_arrays(array: Any) -> None:
    back = again(array)
    assert (back.dtype, back.dtype.str, back.shape) == (array.dtype, array.dtype.str, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable
    assert back.flags.owndata
    if array.flags.f_contiguous or array.flags.c_contiguous:
        assert back.flags.f_contiguous == array.flags.f_contiguous


def test_arrays_that_are_alike_differ() -> None:
    alike = [
        np.zeros(4, "i4"), np.zeros(4, "u4"), np.zeros(4, "f4"), np.zeros(2, "i8"), np.zeros((2, 2), "i4"), np.zeros((4, 1), "i4"),
        np.zeros(4, ">i4"), np.zeros(4, [("a", "i4")]), np.zeros(4, [("b", "i4")]), np.zeros(2, "M8[s]"), np.zeros(2, "M8[ms]"),
        [0, 0, 0, 0], np.zeros(1, "V16"), np.zeros(1, "S16"), bytes(16), np.int32(0), np.int64(0), np.float64(0), 0, 0.0,
    ]  # fmt: skip
    assert len({canonical(value) for value in alike}) == len(alike)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.int8(3),
        np.bool_(True),
        np.str_("ab"),
        np.str_(""),
        np.bytes_(b"a"),
        np.datetime64("2020-01-01"),
        np.complex64(1 + 2j),
        np.float32("nan"),
        np.void(b"abc"),
        np.timedelta64(5, "D"),
        ARRAYS[6][0],
    ],
)
def test_scalars(scalar: Any) -> None:
    back = again(scalar)
    assert back.dtype == scalar.dtype
    assert back.tobytes() == scalar.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.longdouble(1),
        np.array(["a"], np.dtypes.StringDType()),
        np.ma.array([1]),
        np.str_("a\x00"),
        np.zeros(1, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.dtype("i4"),
        np.zeros(1, np.dtype((np.record, [("a", "i4")]))),
        np.array([1]).view(np.recarray),
        pd.Series(pd.period_range("2020", periods=2, freq="D")),
        pd.interval_range(0, 3),
        pd.Period("2020"),
        pd.Series([1]).set_flags(allows_duplicate_labels=False),
    ],
)
def test_what_would_not_come_back_is_refused(value: object) -> None:
    with pytest.raises(EncodingError):
        encode_value(value)


def mixed() -> Any:
    days = pd.to_datetime(["2020-01-01"] * 3)
    frame = pd.DataFrame(
        {
            "a": [1, 2, 3], "b": ["x", None, "z"], "c": [1.5, float("nan"), 2], "d": days, "g": days.tz_localize("Europe/Berlin"),
            "e": pd.Categorical(["u", "v", "u"]), "f": pd.array([1, None, 3], dtype="Int64"), "h": pd.to_timedelta([1, 2, 3], "s"),
            "i": pd.array([True, None, False], dtype="boolean"), "j": [[1], {"a": 1}, None],
        },
        index=pd.Index(["p", "q", "r"], name="idx"),
    )  # fmt: skip
    frame["k"] = pd.Series(["s", "t", None], index=frame.index, dtype="string")
    frame["l"] = pd.Series([1, "a", None], index=frame.index, dtype=object)
    frame.attrs = {"unit": "m"}
    return frame


FRAMES = [
    mixed(), mixed().iloc[1:], pd.DataFrame(), pd.DataFrame({"a": [1]}), pd.DataFrame([[1, 2], [3, 4]], columns=["x", "x"]),
    pd.DataFrame({"a": range(3)}, index=pd.date_range("2020", periods=3, freq="D")), pd.DataFrame(index=[1, 2]),
    pd.DataFrame(np.ones((2, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", "m"])),
    pd.DataFrame(columns=["a"]),
]  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES)
def test_frames(frame: Any) -> None:
    back = again(frame)
    compare.assert_frame_equal(frame, back, check_exact=True, check_freq=True, check_index_type="exact")
    assert back.attrs == frame.attrs
    assert list(back.dtypes) == list(frame.dtypes)


@pytest.mark.parametrize(
    "series",
    [mixed()[name] for name in "abcdefghijkl"]
    + [
        pd.Series([], dtype=object),
        pd.Series([None, float("nan")], dtype=object),
        pd.Series([1, 2], name=("a", 1)),
    ]
    + [pd.Series(["2020"], dtype="M8[s]"), pd.Series([pd.NA, pd.NaT, pd.Timestamp("2020")], dtype=object)],
)
def test_series(series: Any) -> None:
    compare.assert_series_equal(series, again(series), check_exact=True, check_index_type="exact")


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1, 2]),
        pd.Index(["a"]),
        pd.Index([1.5, None], dtype=object),
        pd.RangeIndex(3, name="r"),
        pd.TimedeltaIndex([1, 2]),
        pd.date_range("2020", periods=3, freq="ME", tz="UTC"),
        pd.MultiIndex.from_product([[1, 2], ["a"]]),
        pd.CategoricalIndex(["a", "b"]),
        pd.Index([pd.Timestamp("2020")], dtype=object),
    ],
)
def test_indexes(index: Any) -> None:
    back = again(index)
    compare.assert_index_equal(index, back, exact=True)
    assert getattr(back, "freq", None) == getattr(index, "freq", None)


def test_pandas_values_that_are_alike_differ() -> None:
    alike = [
        pd.Series([1, 2]), pd.Series([1, 2], dtype="i4"), pd.Series([1, 2], name="a"), pd.Series([1, 2], index=[0, 1]),
        pd.Series([1, 2], dtype=object), pd.Series([1, 2], dtype="Int64"), pd.DataFrame({"a": [1, 2]}), pd.Index([1, 2]),
        pd.DataFrame({"a": [1, 2]}, index=[0, 1]), pd.Series([None], dtype=object), pd.Series([float("nan")], dtype=object),
        pd.Timestamp("2020"), pd.Timestamp("2020").as_unit("s"), pd.Timestamp("2020", tz="UTC"), pd.NaT, pd.NA, None,
    ]  # fmt: skip
    assert len({canonical(value) for value in alike}) == len(alike)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2020-01-01"),
        pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timedelta("1s"),
        pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timestamp(1, unit="ns"),
        pd.NaT,
        pd.NA,
    ],
)
def test_pandas_scalars(value: Any) -> None:
    assert repr(again(value)) == repr(value)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_images(mode: str) -> None:
    image = Image.new(mode, (9, 3))
    image.putpixel((1, 1), image.getpixel((0, 0)))
    image.info = {"dpi": (72, 72)}
    back = again(image)
    assert (back.mode, back.size, back.info) == (image.mode, image.size, image.info)
    assert back.tobytes() == image.tobytes()


def test_images_with_a_palette() -> None:
    image = Image.new("RGB", (9, 9))
    image.putpixel((1, 1), (1, 2, 3))
    image = image.quantize(8)
    assert again(image) == image
    other = image.copy()
    other.putpalette(bytes(range(24)))
    assert canonical(other) != canonical(image)


def test_sizes_that_lie_are_unreadable() -> None:
    image, array = encode_value(Image.new("L", (4, 4))), encode_value(np.zeros(4, "u1"))
    for payload, true, false in [
        (image, b"\x92\x04\x04", b"\x92\x04\x7f"),
        (array, b"\x91\x04", b"\x91\x05"),
        (array, b"\x91\x04", b"\x91\x03"),
        (array, b"u1", b"U9"),
    ]:
        assert true in payload
        with pytest.raises(ArtifactUnreadable):
            decode_value(payload.replace(true, false), {})
    with pytest.raises(ArtifactUnreadable):
        decode_value(encode_value(np.zeros(2, "V8")).replace(b"|V8", b"|O8"), {})


def test_no_library_is_imported_for_it() -> None:
    payload = encode_value(np.zeros(2))
    code = (
        "import sys\nfrom musubito.values.artifact_codec import decode_value\nfrom musubito.errors import ArtifactUnreadable\n"
        f"before = 'numpy' in sys.modules\ntry:\n    decode_value({payload!r}, {{}})\nexcept ArtifactUnreadable:\n"
        "    sys.exit(before or 'numpy' in sys.modules)\nsys.exit(2)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SHOWN = {
    "np.zeros((2, 3), '<f8')": {"$type": "ndarray", "dtype": "float64", "shape": [2, 3]},
    "np.zeros(2, [('a', '<i4'), ('b', '<f8')])": {"$type": "ndarray", "dtype": "structured", "shape": [2]},
    "np.float32(2.5)": {"$type": "numpy scalar", "dtype": "float32", "value": 2.5},
    "np.datetime64('2024-01-02')": {"$type": "numpy scalar", "dtype": "M8[D]"},
    "pd.DataFrame({'a': [1, 2, 3], 'b': ['x', None, 'z']})": {
        "$type": "DataFrame",
        "shape": [3, 2],
        "columns": ["a", "b"],
    },
    "pd.Series(pd.date_range('2024', periods=3, tz='UTC'), name='s')": {"$type": "Series", "length": 3, "name": "s"},
    "pd.MultiIndex.from_tuples([(1, 2), (3, 4)])": {"$type": "Index", "length": 2},
    "pd.Timestamp('2024-01-02 03:04')": {"$type": "Timestamp", "value": "2024-01-02 03:04:00"},
    "pd.Timedelta('36h')": {"$type": "Timedelta", "value": "1 day, 12:00:00"},
    "pd.NaT": {"$type": "missing", "value": "NaT"},
    "Image.new('RGB', (4, 3))": {"$type": "Image", "mode": "RGB", "width": 4, "height": 3},
}


@pytest.mark.parametrize(("expression", "shown"), SHOWN.items(), ids=SHOWN)
def test_a_healthy_value_is_shown_by_its_form(expression: str, shown: dict[str, Any]) -> None:
    found = plain(encode_value(eval(expression))[1:])
    assert {key: part for key, part in found.items() if key != "sha256"} == shown


def test_values_of_one_form_are_told_apart() -> None:
    one, other = plain(encode_value([np.zeros(2), np.ones(2)])[1:])
    assert one["shape"] == other["shape"]
    assert one["sha256"] != other["sha256"]
