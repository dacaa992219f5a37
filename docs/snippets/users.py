from musubito import musubito_merge, musubito_step


@musubito_step
def load(user_id: int) -> dict:
    print("load runs for", user_id)
    return {"user_id": user_id, "name": "Ada"}


@musubito_step
def greet(profile: dict) -> str:
    return f"Dear {profile['name']}"


for user in (41, 42):
    profile = load(user)
    with musubito_merge(profile):
        greet(profile.value)
