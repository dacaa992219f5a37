"""Two steps side by side and a third that builds on both: run it twice, and the second time nothing runs.

    $ python quickstart.py
      running fetch_context ...
      running fetch_policy ...
      running summarize ...
    Three customers asked for returns. For returns we give thirty days.
    $ python quickstart.py
    Three customers asked for returns. For returns we give thirty days.

Edit the text that `fetch_policy` returns: it and `summarize` run. The results are in .musubito/musubito.db.
"""

from __future__ import annotations

import asyncio

from musubito import MusubitoResult, musubito_merge, musubito_step


@musubito_step
async def fetch_context(topic: str) -> str:
    """Stand in for a search."""
    print("  running fetch_context ...")
    await asyncio.sleep(0.3)
    return f"Three customers asked for {topic}."


@musubito_step
async def fetch_policy(topic: str) -> str:
    """Stand in for a handbook."""
    print("  running fetch_policy ...")
    await asyncio.sleep(0.3)
    return f"For {topic} we give thirty days."


@musubito_step
async def summarize(context: MusubitoResult[str], policy: MusubitoResult[str]) -> str:
    """Stand in for a model."""
    print("  running summarize ...")
    await asyncio.sleep(0.3)
    return f"{context.value} {policy.value}"


async def main() -> None:
    """Run both fetches at once, then summarize."""
    context, policy = await asyncio.gather(fetch_context("returns"), fetch_policy("returns"))
    with musubito_merge(context, policy):
        summary = await summarize(context, policy)
    print(summary.value)


if __name__ == "__main__":
    asyncio.run(main())
