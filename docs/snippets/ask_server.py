import sys

from langgraph_sdk import get_sync_client

client = get_sync_client(url=sys.argv[1])
for _ in range(2):
    print(client.runs.wait(None, "report", input={"topic": "knots"})["text"])
