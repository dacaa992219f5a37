import secrets
from pathlib import Path

old = Path("key").read_bytes()
new = old[:32] + secrets.token_bytes(32) + old[-32:]
Path("key.next").write_bytes(new)
