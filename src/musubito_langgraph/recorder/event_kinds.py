"""Name the kinds of recorded events, and the limits of what is recorded."""

from __future__ import annotations

from typing import Final

CUSTOM: Final = "custom"
"""Kind of record: a custom event, and the graph inside the node that emitted it."""
STREAMED: Final = "streamed"
"""Kind of record: what a graph inside the node streamed of its state and its tasks, with that graph and the mode."""
OF_GRAPHS: Final = frozenset({"values", "updates", "tasks"})
"""The modes of what is recorded so. What the others stream holds checkpoints, of which a replay makes none."""
RETURNED: Final = "returned"
"""Kind of record: messages that a node of a graph inside returned, with the metadata that differ from those around."""
DISPATCHED: Final = "dispatched"
"""Kind of record: an event that LangChain's `dispatch_custom_event` sent to callbacks."""
MODEL: Final = "model"
"""Kind of record: a model begins to answer. The record holds the metadata of its messages that differ from those
around, and references to the messages that it was asked with (see `References`)."""
CHUNK: Final = "chunk"
"""Kind of record: a chunk of a model's answer."""
TEXT: Final = "text"
"""Kind of record: a chunk that differs from the previous chunk in its text alone."""
END: Final = "end"
"""Kind of record: a model has answered. The record holds the whole message. It holds None if the chunks add up to the
message, or if there are none and the message is the output of the step."""
TOOL: Final = "tool"
"""Kind of record: a tool begins. The record holds the metadata that differ from those around, and the tool call. If the
tool call had no id, the recorded id is None."""
DONE: Final = "done"
"""Kind of record: a tool has ended. The record holds its output, or None if its message is in the output of the
node, and the keywords that handlers are told besides."""
FAILED: Final = "failed"
"""Kind of record: a model or a tool has failed. The record holds the text of the error, without secrets."""
OF_CALLS: Final = frozenset({MODEL, CHUNK, TEXT, END, TOOL, DONE, FAILED})
"""Kinds of records that tell what models and tools did."""
LARGEST: Final = 65_536
"""Bytes that are kept at most of what a graph inside streamed at once, and of a tool's output that the output of the
node does not hold."""
OMITTED: Final = "(too large to be kept for a replay)"
"""The text that stands for a larger output."""
KEYWORDS: Final = "name", "color"
"""Keywords besides the output that LangChain tells handlers when a tool ends."""
PUSHED: Final = "pushed"
"""Kind of record: a message that `push_message` showed, with the metadata that differ from those around."""
ANSWERED: Final = "answered"
"""Kind of record: the node was given a person's answer. It is recorded in recorded tests alone."""
NESTED: Final = "langgraph_checkpoint_ns", "checkpoint_ns"
"""Keys of metadata whose values begin with the namespace of the node. Only the rest of such a value is recorded."""
