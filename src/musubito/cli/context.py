"""Share among all commands the lineage that they read, common options, output and errors."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, NoReturn, Self

import click
from rich.console import Console
from rich.text import Text

from musubito import MusubitoEngine
from musubito.cli.blob_option import blobs_at, check_owner
from musubito.cli.table_layout import broken
from musubito.lineage import Lineage
from musubito.lineage.readers.formatting import CONTROLS
from musubito.lineage.readers.store_reader import engine_on_existing
from musubito.payloads.blobs import BlobStore
from musubito.payloads.key_derivation import Keys, KeySource, read_key_file
from musubito.store.protocol import Store
from musubito.store.queries import KeyCheckOf
from musubito.store.sqlite.opening import DEFAULT_PATH
from musubito.store.sqlite.read_only import existing_sqlite
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.store.urls import is_postgres, open_existing, open_store

KEY_FILE: Final = "MUSUBITO_KEY_FILE"
"""The environment variable that names the file of the key, with which commands read encrypted contents."""
LEAST: Final = 20
"""The fewest columns in which a sentence is broken into lines."""


def _or_before(ctx: click.Context, option: click.Parameter, value: bool) -> bool:
    """Return whether a flag was given here or before the command."""
    return value or option.name in ctx.ensure_object(CommandContext).flags


json_option = click.option(
    "--json", "json_", is_flag=True, callback=_or_before, help="For machines: one JSON document."
)
no_inputs_option = click.option(
    "--no-inputs",
    "no_inputs",
    is_flag=True,
    callback=_or_before,
    help="Leave out the contents of inputs and outputs, and tags.",
)


class CommandError(click.ClickException):
    """A request that cannot be met. Its text says why, and what to do."""

    exit_code = 2


@contextmanager
def valid_settings() -> Iterator[None]:
    """Raise `CommandError` if an engine takes no such value of an environment variable, such as MUSUBITO_KEEP."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error


class Screen(Console):
    """A console that cuts no wide line, and whose reader may be gone."""

    def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
        """Print without cropping; see `table_layout.table_of`."""
        super().print(*objects, crop=crop, **options)

    def on_broken_pipe(self) -> NoReturn:
        """End the process; see `reader_gone`."""
        reader_gone()


class CommandContext:
    """The context of a command: its store and the terminal.

    The store is opened when it is first needed. `flags` are the names of flags that were given before the command.
    """

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({}), flags: Collection[str] = ()) -> None:
        self._environment = environment
        self._places: dict[str, str] = {}
        self._opens: Callable[[str], Store] = open_existing
        self.flags = flags

    def set_place(self, option: str, value: str) -> None:
        """Take the value of `--db`, `--url` or `--blobs`, from before the command or from after it."""
        if option in self._places:
            raise click.UsageError(f"--{option} is given twice; give it once")
        self._places[option] = value
        if {"db", "url"} <= self._places.keys():
            raise click.UsageError("--db and --url both say where the store is; give one of them")

    def place_options(self) -> list[str]:
        """Return the option that names the store by its path, for another process."""
        return ["--db", self._places["db"]] if "db" in self._places else []

    def place_variables(self) -> dict[str, str]:
        """Return the environment variables that name the store by its URL, for another process.

        The arguments of a process can be read by others, and a URL may hold a password.
        """
        return {f"MUSUBITO_{option.upper()}": value for option, value in self._places.items() if option != "db"}

    def url_of_options(self) -> str | None:
        """Return the URL of the store that `--db` or `--url` names; None without these."""
        path = self._places.get("db")
        return self._places.get("url") if path is None else f"sqlite:///{Path(path).absolute()}"

    @property
    def _url_of_environment(self) -> str | None:
        return None if {"db", "url"} & self._places.keys() else self._environment.get("url")

    @property
    def _blobs(self) -> str | None:
        return self._places.get("blobs", self._environment.get("blobs"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "lineage" in vars(self):
            self.lineage.engine.close()

    @cached_property
    def lineage(self) -> Lineage:
        """Return the lineage of the store.

        Raises `CommandError` if the file does not exist: reading never creates one.
        """
        url = self._url
        makes = self._opens is open_store
        if url is None:
            path = Path(self._places.get("db", DEFAULT_PATH))
            if not makes:
                self._must_be_there(path)
            storage = SQLiteStorage(path) if makes else existing_sqlite(path)
            with valid_settings():
                return Lineage(MusubitoEngine(storage, blobs=self._blob_store(), key=self._key_source(storage)))
        scheme, _, rest = url.partition(":///")
        if scheme == "sqlite" and rest and not makes:
            self._must_be_there(Path(rest))
        with valid_settings():
            return Lineage(engine_on_existing(url, self._blob_store(), self._key_source, self._opens))

    @cached_property
    def key(self) -> bytes | None:
        """Return the key in the file that MUSUBITO_KEY_FILE names; None if it names none."""
        path = os.environ.get(KEY_FILE)
        return read_key_file(path) if path else None

    def _key_source(self, storage: Store) -> KeySource | None:
        """Return the source of keys for an engine on this store: the key for each namespace that has it."""
        key = self.key
        if key is None:
            return None
        checks: dict[str, bytes | None] = {}

        def of(namespace: str) -> bytes | None:
            if namespace not in checks:
                checks[namespace] = storage.find(KeyCheckOf(namespace))
            return key if checks[namespace] == Keys(key, namespace).check else None

        return of

    @property
    def _url(self) -> str | None:
        return self._places.get("url", self._url_of_environment)

    def make_store(self) -> None:
        """Let the store be made if it is not there."""
        self._opens = open_store

    def make_schema(self) -> None:
        """Let the store be opened as a worker opens it, which makes or migrates the schema of PostgreSQL."""
        if self._url is not None and is_postgres(self._url):
            self._opens = open_store

    def _blob_store(self) -> BlobStore | None:
        """Return the blobs that the user named, or None.

        With None, blobs lie beside the database, as for any engine.
        """
        return None if self._blobs is None else blobs_at(self._blobs)

    @staticmethod
    def _must_be_there(path: Path) -> None:
        if not path.is_file():
            raise CommandError(
                f"there is no database at {path}. Either nothing has run here yet, or it is elsewhere: name it with "
                "--db PATH, or set MUSUBITO_URL."
            )

    @property
    def engine(self) -> MusubitoEngine:
        """Return the engine on the store."""
        return self.lineage.engine

    def before_removal(self) -> None:
        """Raise `MusubitoError` if the named place of large outputs may belong to another database."""
        if self._blobs is not None:
            together = "blobs" in self._places or self._url_of_environment is not None
            check_owner(self.lineage, named_together=together)

    @cached_property
    def console(self) -> Console:
        """Return the console for people.

        Its width is that of the terminal, or 80 columns where the width is unknown. Colours are shown only where they
        are wanted (NO_COLOR). No text is taken for markup, since names and contents may hold brackets.
        """
        columns = shutil.get_terminal_size((80, 24)).columns
        return Screen(width=columns, highlight=False, markup=False, emoji=False)

    def print_text(self, text: str | Text, *, prefix: str | Text = "") -> None:
        """Print a sentence after a prefix.

        In a terminal a sentence is broken between words, and each line begins below the first one. For programs the
        sentence stays in one line. A word without blanks, such as a path, is never broken.
        """
        first, sentence = Text.assemble(prefix), Text.assemble(text)
        room = max(LEAST, self.console.width - first.cell_len)
        for line in broken(sentence, room) if self.console.is_terminal else [sentence]:
            self.console.print(first + line, soft_wrap=True)
            first = Text(" " * first.cell_len)

    @staticmethod
    def json(document: Any) -> None:
        """Print one JSON document on the standard output."""
        click.echo(json_text(document))


def json_text(document: Any) -> str:
    """Return a document as JSON text whose characters do nothing to a terminal."""
    text = json.dumps(as_json(document), indent=2, ensure_ascii=False)
    return CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", text)


def as_json(value: Any) -> Any:
    """Return reports as values that JSON can hold.

    A dataclass becomes an object of its fields. Times stay numbers. Values that JSON cannot hold become text.
    """
    match value:
        case Enum():
            return value.value
        case float() if not math.isfinite(value):
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {str(key): as_json(part) for key, part in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return {name: as_json(getattr(value, name)) for name in value._fields}
        case list() | tuple() | set() | frozenset():
            return [as_json(part) for part in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    return value


def no_runs_text(context: CommandContext) -> str:
    """Return the sentence that says why there is no run to show."""
    if context.lineage.rows("began")[0][0]:
        return (
            "The history has no run: it was pruned, or a process was killed before it wrote its run. Results are "
            "stored, see 'musubito stats'."
        )
    return "Nothing has run yet."


def without_error_texts(document: Any) -> Any:
    """Return the document with the names of errors in place of their texts, and without the reasons of edits.

    The text of an error may quote the arguments of a call, and so may a person who says why an output was corrected.
    """
    if isinstance(document, dict):
        return {key: _without_text(key, part) for key, part in document.items()}
    return [without_error_texts(part) for part in document] if isinstance(document, list) else document


def _without_text(key: str, part: Any) -> Any:
    if key == "error" and isinstance(part, str):
        return part.partition(":")[0]
    if key == "edit" and isinstance(part, dict):
        return {**part, "reason": ""}
    return without_error_texts(part)


def missing_package(error: ImportError) -> str:
    """Return the name of the package that is not installed."""
    return (error.name or str(error)).partition(".")[0]


def confirm(question: str, refusal: str) -> None:
    """Ask a question. Raise `CommandError` with the refusal unless the user agrees."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        raise CommandError(f"{refusal}; --yes skips the question.") from None
    if not agreed:
        raise CommandError(f"{refusal}.")


def reader_gone() -> NoReturn:
    """End the process with status 0, and without a message.

    Otherwise Python would complain of the broken pipe once more when the process ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)
