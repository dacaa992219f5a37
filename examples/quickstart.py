"""The smallest use of Musubito: run it twice, and the second time nothing runs.

Two async functions are gathered, a third builds on both. Each says when it really runs. What is kept lies in
.musubito/musubito.db.
"""

from __future__ import annotations

import asyncio

from musubito import MusubitoResult, musubito_merge, musubito_step


@musubito_step()
async def fetch_context(question: str) -> str:
    """Stand in for a search."""
    print("  running fetch_context ...")
    await asyncio.sleep(0.3)
    return f"Three customers asked: {question}"


@musubito_step()
async def fetch_policy(topic: str) -> str:
    """Stand in for a look into a handbook."""
    print("  running fetch_policy ...")
    await asyncio.sleep(0.3)
    return f"On {topic}: thirty days."


@musubito_step()
async def summarize(context: MusubitoResult[str], policy: MusubitoResult[str]) -> str:
    """Stand in for a model."""
    print("  running summarize ...")
    await asyncio.sleep(0.3)
    return f"{context.value} {policy.value}"


async def main() -> None:
    """Gather, merge, print."""
    context, policy = await asyncio.gather(fetch_context("can I return it?"), fetch_policy("returns"))
    with musubito_merge(context, policy):
        summary = await summarize(context, policy)
    print("context:", context.value)
    print("policy: ", policy.value)
    print("summary:", summary.value)
    print("node:   ", summary.node_id)


if __name__ == "__main__":
    asyncio.run(main())
