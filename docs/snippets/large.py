import hashlib

from obstore.store import LocalStore  # S3Store, GCSStore and AzureStore are used alike

from musubito import MusubitoEngine, ObjectBlobs, SQLiteStorage, musubito_step, use_musubito_engine


@musubito_step
def render(pages: int) -> bytes:
    print("render runs")
    return hashlib.shake_256(b"a picture").digest(pages * 1_000_000)


blobs = ObjectBlobs(LocalStore("blobs", mkdir=True))
with MusubitoEngine(SQLiteStorage("work.db"), blobs=blobs) as engine, use_musubito_engine(engine):
    print(len(render(3).value), "bytes")
