"""Keep the vectors of texts that a search by meaning was made with, so that a replay asks no model for them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from langgraph.store.base.embed import EmbeddingsLambda
from pydantic import BaseModel

from musubito.code.ownership import Owner
from musubito.values.canonical import canonical
from musubito_langgraph.object_identity import ORIGINS, code_of


class KnownVectors:
    """Embeddings of a store that know the vectors of some texts, and ask for those of others."""

    def __init__(self, behind: Any, made_by: bytes, known: dict[tuple[str, str], list[float]]) -> None:
        self._behind = behind
        self.made_by = made_by
        self.known = known
        """The vectors, by the text and by what the text was embedded as: a query or a document."""

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        if ("query", text) not in self.known:
            self.known["query", text] = self._behind.embed_query(text)
        return self.known["query", text]

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        if ("query", text) not in self.known:
            self.known["query", text] = await self._behind.aembed_query(text)
        return self.known["query", text]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents; SQL stores embed queries so, too."""
        new = self._new(texts)
        return self._all(texts, new, self._behind.embed_documents(new) if new else [])

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents; SQL stores embed queries so, too."""
        new = self._new(texts)
        return self._all(texts, new, await self._behind.aembed_documents(new) if new else [])

    def _new(self, texts: list[str]) -> list[str]:
        return [text for text in texts if ("document", text) not in self.known]

    def _all(self, texts: list[str], new: list[str], vectors: list[list[float]]) -> list[list[float]]:
        self.known.update((("document", text), vector) for text, vector in zip(new, vectors, strict=True))
        return [self.known["document", text] for text in texts]


def maker_of_vectors(store: type, embeddings: Any) -> bytes | None:
    """Return the digest of the class of a store and of its embeddings, None if these cannot be followed.

    LangChain's classes hold clients, which cannot be followed, beside the fields that say which model is asked.
    """
    is_langchains = isinstance(embeddings, BaseModel) and ORIGINS.of_class(type(embeddings)) is not Owner.USER
    asked = [*vars(embeddings).values()] if isinstance(embeddings, EmbeddingsLambda) else [embeddings]
    codes = [code_of(text) for text in asked]
    if not is_langchains and any(code.untracked for code in codes):
        return None
    return sha256(canonical([store.__qualname__, *(code.digest for code in codes)])).digest()
