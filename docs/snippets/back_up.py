import sqlite3
import sys
from contextlib import closing

source, target = sys.argv[1:]
with closing(sqlite3.connect(source)) as connection:
    # A whole copy, even while other processes write.
    connection.execute("VACUUM INTO ?", (target,))
