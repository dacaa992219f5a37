from musubito.lineage import Lineage

with Lineage.from_url("sqlite:///work.db") as lineage:
    for run in lineage.runs():
        for call in lineage.run(run.run_id).calls:
            print(call.operation, lineage.input(lineage.node(call.node_id)))
