"""Find the paths of files that compiled code may open by itself.

Python's audit events tell which files Python code opens. They do not tell of files that a compiled package opens, such
as Polars. So each existing file that a step names by a path counts as read, if the step's code reaches such a package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from musubito.code.live import fields_of, slots_of
from musubito.code.syntax.source import codes
from musubito.deferred import deferred_pattern

PACKAGES: Final = frozenset(
    {
        *("polars", "pyarrow", "duckdb", "_duckdb", "datafusion", "lance", "deltalake", "fastexcel", "python_calamine"),
        *("lxml", "selectolax", "fitz", "pymupdf", "pypdfium2", "pikepdf", "poppler", "kreuzberg", "tesserocr"),
        *("tokenizers", "sentencepiece", "safetensors", "onnxruntime", "llama_cpp", "ctransformers", "fasttext"),
        *("faiss", "hnswlib", "annoy", "usearch", "tantivy", "xgboost", "lightgbm", "catboost", "treelite"),
        *("cv2", "soundfile", "av", "decord", "pyvips", "h5py", "tables", "netCDF4", "zarr", "rasterio", "osgeo"),
        *("fiona", "pyogrio", "rocksdict", "lmdb"),
    }
)
"""Packages whose compiled code opens files by their paths."""
THROUGH_OTHERS: Final = frozenset(
    {
        *("pandas", "geopandas", "xarray", "dask", "modin", "datasets", "transformers", "sentence_transformers"),
        *("langchain_community", "llama_index", "unstructured", "docling", "torchvision", "torchaudio", "librosa"),
        *("skimage", "imageio"),
    }
)
"""Packages that hand a path on to one of these for some of their files, and open others in Python."""
OF_PANDAS: Final = frozenset({"read_parquet", "read_orc", "read_hdf"})
"""The functions of pandas that hand a path on."""
OPENERS: Final = deferred_pattern(
    "(?:read|scan|load|open|parse|imread)(?:_.*)?|from_(?:file|pretrained|path)|dataset|ParquetFile|ParquetDataset|"
    "memory_map|safe_open|sql|query|execute|connect|InferenceSession|Llama|SentencePieceProcessor|Booster|File|"
    "VideoCapture|PdfDocument"
)
"""Names of the functions and classes of these packages that open a file."""
WRITERS: Final = deferred_pattern(
    "(?:write|sink|save|dump|export|imwrite)(?:_.*)?|to_(?:csv|parquet|json|feather|file)"
)
"""Names of functions that write files."""
QUOTED: Final = deferred_pattern(r"""'([^'\n]+)'|"([^"\n]+)\"""")
"""Matches a quoted part of a text: a query may name a file in quotes."""
LONGEST_PATH: Final = 1024
"""Characters of the longest text that is taken for a path."""
LONGEST_QUERY: Final = 65_536
"""Characters of the longest text in which quoted paths are looked for."""
MOST_ITEMS: Final = 10_000
"""Values of containers among which paths are looked for at most."""


class PathsNamed(NamedTuple):
    """The paths that a step's code names, where compiled code may open them."""

    texts: frozenset[str]
    """Texts that may be paths. A relative one may be joined to a folder."""
    folders: frozenset[str]
    """The folders of the user's modules."""
    writes: bool
    """Whether the code names a function that writes files."""


def paths_named(
    functions: Collection[FunctionType], constants: Iterable[Any], packages: Collection[str], words: Collection[str]
) -> PathsNamed | None:
    """Return the paths that functions and their constants name; None if no package of these opens files unseen."""
    if (PACKAGES | THROUGH_OTHERS).isdisjoint(packages):
        return None
    texts = set(paths_in(constants))
    folders: set[str] = set()
    for function in functions:
        for code in codes(function.__code__):
            texts.update(paths_in(code.co_consts))
        file = function.__globals__.get("__file__")
        if type(file) is str and file:
            folders.add(str(Path(file).absolute().parent))
    return PathsNamed(frozenset(texts), frozenset(folders), any(map(WRITERS.fullmatch, words)))


def opens_unseen(definition: str) -> bool:
    """Return whether a function or class, by the full name of its definition, opens files where no event tells."""
    package, _, rest = definition.partition(".")
    if package == "pandas":
        return rest.rpartition(".")[2] in OF_PANDAS
    return package in PACKAGES and any(map(OPENERS.fullmatch, rest.split(".")[-2:]))


def paths_in(value: Any) -> Iterator[str]:
    """Yield the texts that may be paths: the value itself, or what its containers and fields hold."""
    ahead = [value]
    for each in ahead:
        if isinstance(each, str):
            if _may_be_path(each):
                yield each
            if len(each) <= LONGEST_QUERY and " " in each:
                yield from filter(_may_be_path, (one or other for one, other in QUOTED.findall(each)))
        elif isinstance(each, PurePath):
            yield str(each)
        elif len(ahead) < MOST_ITEMS and isinstance(each, Mapping):
            ahead += (*each.keys(), *each.values())
        elif len(ahead) < MOST_ITEMS and isinstance(each, (list, tuple, set, frozenset)):
            ahead += each
        elif len(ahead) < MOST_ITEMS and not isinstance(each, (type, CodeType, FunctionType, ModuleType)):
            ahead += _held_by(each)


def _held_by(value: Any) -> Iterator[Any]:
    """Yield the values in an object's fields and slots."""
    yield from (fields_of(value) or {}).values()
    yield from (each for _, each in slots_of(value))


def _may_be_path(text: str) -> bool:
    return 0 < len(text) <= LONGEST_PATH and "\n" not in text and "\0" not in text
