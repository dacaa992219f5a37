"""Parts of the documentation that are made when it is built: diagrams from text, and lists from the code."""
