"""The graphs that are compared, wrapped with bare."""

from __future__ import annotations

from typing import Final

from tests.langgraph import zoo_agents, zoo_interrupts, zoo_nodes, zoo_states, zoo_topologies
from tests.langgraph.specimen import Specimen

SHELVES: Final = {
    "topologies": zoo_topologies.ZOO,
    "nodes": zoo_nodes.ZOO,
    "states": zoo_states.ZOO,
    "interrupts": zoo_interrupts.ZOO,
    "agents": zoo_agents.ZOO,
}
ZOO: Final[dict[str, Specimen]] = {
    f"{shelf}: {specimen.name}": specimen for shelf, specimens in SHELVES.items() for specimen in specimens
}
