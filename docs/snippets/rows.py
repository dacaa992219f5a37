import sqlite3

from musubito import depends_on, musubito_step, register_dependency

shop = sqlite3.connect("shop.db", isolation_level=None, check_same_thread=False)
shop.execute("CREATE TABLE IF NOT EXISTS prices (name TEXT PRIMARY KEY, price INT)")


def price_of(name: str) -> int:
    return shop.execute("SELECT price FROM prices WHERE name = ?", [name]).fetchone()[0]


register_dependency("price", price_of)  # where the program starts


@musubito_step
def offer(name: str) -> str:
    print("offer runs")
    depends_on("price", name)  # before the step reads it
    return f"{name} for {price_of(name)}"


def main() -> None:
    for price in (3, 3, 4):
        shop.execute("INSERT OR REPLACE INTO prices VALUES ('tea', ?)", [price])
        print(offer("tea").value)


if __name__ == "__main__":
    main()
