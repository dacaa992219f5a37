import sqlite3
import sys

source, target = sys.argv[1:]
# A whole copy, even while other processes write.
sqlite3.connect(source).execute("VACUUM INTO ?", (target,))
