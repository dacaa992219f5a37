"""The pages, one module for each: it asks `musubito.lineage`, and fills a template of the same name."""
