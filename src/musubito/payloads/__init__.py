"""The way of a payload's bytes into a store and back: compression, encryption, and blobs for large payloads."""
