import httpx

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

SITE = "https://example.com"
client = httpx.Client(base_url=SITE, timeout=5)
client.headers["accept-language"] = "en"
usage: dict[str, int] = {}


@musubito_step
def address(page: str) -> str:
    print("address runs")
    usage[page] = usage.get(page, 0) + 1
    return str(client.build_request("GET", page).url)


if __name__ == "__main__":
    with MusubitoEngine(SQLiteStorage()) as engine, use_musubito_engine(engine):
        address("/tea")
        print(engine.explain(address, "/tea"))
